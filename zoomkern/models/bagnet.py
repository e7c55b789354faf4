"""A dense bag of local features: a residual network whose every feature sees a window of a chosen size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks
from zoomkern.models.arguments import PIXELS, checked_reading, linear_classifier
from zoomkern.models.network import Network, device_of
from zoomkern.models.whole_images import whole_images
from zoomkern.nn.pooling import LogSumExpPooling, MaxPooling, MeanPooling, SoftAttentionPooling
from zoomkern.nn.resnet import normalisation, require_map
from zoomkern.typing import ImageBatch

POOLINGS = ("mean", "max", "logsumexp", "attention")
EXPANSION = 4


class BagNetOutput(NamedTuple):
    """What one forward pass saw and concluded.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        features: ``[B, D, h, w]``, a feature for every window.
        pooled: ``[B, D]``.
    """

    scores: Tensor
    features: Tensor
    pooled: Tensor


class Bottleneck(nn.Module):
    """``relu(shortcut(x) + wide(middle(narrow(x))))``, each a convolution with instance norm.

    Args:
        in_channels: channels before the block.
        channels: channels behind it, divisible by four.
        stride: of the middle convolution and of the shortcut.
        kernel_size: of the middle convolution, 1 or 3; the others have 1.

    Source:
        He et al., CVPR 2016.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, kernel_size: int) -> None:
        super().__init__()
        inner = channels // EXPANSION
        self.narrow = _convolution(in_channels, inner)
        self.middle = _convolution(inner, inner, kernel_size, stride)
        self.wide = _convolution(inner, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = _convolution(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C', ceil(h / stride), ceil(w / stride)]``."""
        return F.relu(self.shortcut(x) + self.wide(F.relu(self.middle(F.relu(self.narrow(x))))))


class BagNet(Network):
    """The network of "Needles in Haystacks": local features of the whole image, pooled, and a linear classifier.

    **Receptive field.** Convolutions are 1 x 1 but for as many of 3 x 3 as make each feature see exactly
    ``receptive_field`` pixels: a 3 x 3 convolution where features lie ``j`` pixels apart adds ``2 j``. The stem comes
    first (where the rest works out with it), then the first block of each stage as far as they fit, so that no pixel
    falls between features, then the others, coarse ones first. Feature ``(r, c)`` is centred on pixel
    ``(r stride, c stride)``: :meth:`window` names its pixels. The instance norms are exempt: their statistics are those
    of the whole image.

    **Borders.** "Same" borders with the outermost values repeated: a frame of zeros would look like an object. The map
    has ``ceil(H / stride)`` by ``ceil(W / stride)`` features, and ``receptive_field >= 2 stride - 1`` makes sure that
    every pixel is seen, those of the far edges included.

    Args:
        num_classes: number of classes ``K``.
        receptive_field: side of the window of one feature in pixels, odd.
        channels: width of each stage, divisible by four; the last one is the feature size ``D``.
        blocks: residual blocks in each stage.
        strides: 1 or 2 for each stage's first block; ``stride`` is their product.
        pooling: "mean", "max", "logsumexp" (the mean of exponentials, at temperature 1) or "attention".
        in_channels: image channels.
        **reading: further arguments of :func:`zoomkern.gather_patches`, such as ``mean``, ``std`` and ``dtype``.

    Memory:
        Every pixel of the batch, and the network's maps.

    Raises:
        ValueError: a receptive field that these blocks and strides cannot have; the message names those they can.

    Source:
        Pawlowski et al., "Needles in Haystacks", arXiv 1908.06037; Brendel & Bethge, "BagNet", ICLR 2019.

    Example:
        >>> model = BagNet(2, receptive_field=33, mean=0.5, std=0.5)
        >>> small = BagNet(2, 7, channels=(16, 32), blocks=(1, 2), strides=(2, 2), in_channels=1)
        >>> small.window(3, 0)
        (9, -3, 16, 4)
    """

    inputs = ("images",)

    def __init__(
        self,
        num_classes: int,
        receptive_field: int = 33,
        *,
        channels: Sequence[int] = (256, 512, 1024, 2048),
        blocks: Sequence[int] = (3, 4, 6, 3),
        strides: Sequence[int] = (2, 2, 2, 1),
        pooling: str = "mean",
        in_channels: int = 3,
        **reading: Any,
    ) -> None:
        super().__init__()
        if not len(channels) == len(blocks) == len(strides) >= 1:
            raise ValueError(
                "BagNet: channels, blocks and strides must name the same number of stages, at least one; "
                f"got {len(channels)}, {len(blocks)} and {len(strides)}."
            )
        if min(blocks) < 1 or not set(strides) <= {1, 2}:
            raise ValueError(f"BagNet: blocks must be at least 1 and strides 1 or 2; got {blocks} and {strides}.")
        if any(width < EXPANSION or width % EXPANSION for width in channels):
            raise ValueError(f"BagNet: channels must be divisible by {EXPANSION}; got {tuple(channels)}.")
        self.receptive_field = checks.integer("receptive_field", receptive_field, 1)
        stem, kernels = choose_kernels(self.receptive_field, blocks, strides)
        self.stride = math.prod(strides)
        width = channels[0] // EXPANSION
        layers: list[nn.Module] = [_convolution(in_channels, width, stem), nn.ReLU()]
        for hidden, stride, sizes in zip(channels, strides, kernels, strict=True):
            for block, size in enumerate(sizes):
                layers.append(Bottleneck(width, hidden, 1 if block else stride, size))
                width = hidden
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.layers = nn.Sequential(*layers)
        checks.choice("pooling", pooling, POOLINGS)
        if pooling == "attention":
            self.pooling: nn.Module = SoftAttentionPooling(width)
        else:
            self.pooling = {"mean": MeanPooling, "max": MaxPooling, "logsumexp": LogSumExpPooling}[pooling]()
        self.classifier = linear_classifier(width, num_classes)
        self.reading = checked_reading(reading, PIXELS + ("level",))

    def forward(self, images: Tensor | Sequence[Any] | ImageBatch, *, seed: int | Tensor | None = None) -> BagNetOutput:
        """Read everything, conclude.

        Args:
            images: ``B`` images of one size on the network's device, anything :func:`zoomkern.gather_patches` takes.
            seed: without effect, for nothing is drawn.

        Returns:
            Class scores with the features behind them.

        Raises:
            ValueError: images of different sizes, of other channels, or with a single window.
        """
        whole = whole_images(images, device_of(self), **self.reading)  # [B, C, H, W]
        checks.pixels("images", whole, self.in_channels)
        require_map("images", whole, self.stride)
        features: Tensor = self.layers(whole)  # [B, D, h, w]
        pooled: Tensor = self.pooling(features)
        return BagNetOutput(self.classifier(pooled), features, pooled)

    def window(self, row: int, column: int) -> tuple[int, int, int, int]:
        """``(top, left, bottom, right)`` of the pixels that feature ``(row, column)`` sees, the ends excluded.

        They may lie outside the image, where its outermost pixels stand in.
        """
        top, left = (self.stride * place - self.receptive_field // 2 for place in (row, column))
        return top, left, top + self.receptive_field, left + self.receptive_field


def choose_kernels(receptive_field: int, blocks: Sequence[int], strides: Sequence[int]) -> tuple[int, list[list[int]]]:
    """Kernel sizes, 1 or 3, of the stem and of each stage's blocks that make exactly this receptive field.

    Raises:
        ValueError: there are none, or pixels would lie between the windows.
    """
    stride = math.prod(strides)
    found = _find_kernels(receptive_field, blocks, strides)
    if found is None or receptive_field < 2 * stride - 1:
        most = 3 + 2 * sum(distance for _, _, distance in _places(blocks, strides))
        odd = range(2 * stride - 1, most + 1, 2)
        possible = [field for field in odd if _find_kernels(field, blocks, strides) is not None]
        raise ValueError(
            f"receptive_field must be odd, and with strides {tuple(strides)} and blocks {tuple(blocks)} one of "
            f"{', '.join(map(str, possible)) or 'none'}; got {receptive_field}. Change the strides or the blocks."
        )
    return found


def _places(blocks: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int, int]]:
    """``(stage, block, pixels between the features that the block's middle convolution reads)``, in order."""
    places, distance = [], 1
    for stage, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        places.append((stage, 0, distance))
        distance *= stride
        places += [(stage, block, distance) for block in range(1, count)]
    return places


def _find_kernels(
    receptive_field: int, blocks: Sequence[int], strides: Sequence[int]
) -> tuple[int, list[list[int]]] | None:
    radius, odd = divmod(receptive_field - 1, 2)
    places = _places(blocks, strides)
    first = [place for place in places if place[1] == 0]
    others = sorted((place for place in places if place[1] > 0), key=lambda place: -place[2])
    for stem in () if odd else (3, 1):
        kernels = [[1] * count for count in blocks]
        left = radius - stem // 2
        for stage, block, distance in first + others:
            if distance <= left:
                kernels[stage][block] = 3
                left -= distance
        if left == 0:
            return stem, kernels
    return None


def _convolution(in_channels: int, channels: int, kernel_size: int = 1, stride: int = 1) -> nn.Module:
    """A convolution with repeated borders, and an affine instance norm."""
    padding = kernel_size // 2
    convolution = nn.Conv2d(in_channels, channels, kernel_size, stride, padding, padding_mode="replicate", bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, normalisation("instance", channels))

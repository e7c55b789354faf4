"""A small residual feature network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks

NORMS = ("batch", "instance", "group")
POOLS = ("avg", "max")


class BasicBlock(nn.Module):
    """``relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))`` with 3 x 3 convolutions, the first one strided.

    Args:
        in_channels: channels before the block.
        channels: channels behind it.
        stride: of the first convolution and of the shortcut.
        norm: "batch", "instance" or "group".

    Source:
        He et al., CVPR 2016.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.first = _convolution(in_channels, channels, 3, stride)
        self.first_norm = normalisation(norm, channels)
        self.second = _convolution(channels, channels, 3, 1)
        self.second_norm = normalisation(norm, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(_convolution(in_channels, channels, 1, stride), normalisation(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[M, C, h, w]`` to ``[M, C', ceil(h / stride), ceil(w / stride)]``."""
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.shortcut(x) + self.second_norm(self.second(inner)))


class ResNetFeatures(nn.Module):
    """A 3 x 3 convolution, stages of residual blocks, a global pool.

    Every stage but the first halves the map. The defaults are the eight-layer network of 32 channels (one convolution,
    three blocks of two, and the classifier behind it) that the Zoom-In paper compares with on whole images. Its
    "ResNet16" for patches is not documented; ``channels=(32, 64, 128), blocks=(2, 2, 3)`` has sixteen layers, the
    classifier included.

    Args:
        in_channels: channels of a patch.
        channels: width of each stage; the last one is the feature size ``D``.
        blocks: residual blocks in each stage.
        norm: "batch", "instance" (affine) or "group" (eight groups, or the most that divides the width). Padding of a
            draw passes through the network too, and batch statistics see it; the other two treat each patch alone.
        pool: global "avg" or "max" pool.
        normalise: scale features to unit length.

    Attributes:
        out_features: feature size ``D``.

    Source:
        He et al., CVPR 2016; Kong & Henao, CVPR 2022 ("8-layer ResNet, 32 channels").

    Example:
        >>> ResNetFeatures()(torch.rand(6, 3, 50, 50)).shape
        torch.Size([6, 32])
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: Sequence[int] = (32, 32, 32),
        blocks: Sequence[int] = (1, 1, 1),
        norm: str = "batch",
        pool: str = "avg",
        normalise: bool = False,
    ) -> None:
        super().__init__()
        if not len(channels) == len(blocks) >= 1:
            raise ValueError(
                "ResNetFeatures: channels and blocks must name the same number of stages, at least one; "
                f"got {len(channels)} and {len(blocks)}."
            )
        if min(blocks) < 1:
            raise ValueError(f"ResNetFeatures: blocks must be at least 1 in each stage; got {tuple(blocks)}.")
        self.norm = checks.choice("norm", norm, NORMS)
        width = channels[0]
        layers = [_convolution(in_channels, width, 3, 1), normalisation(norm, width), nn.ReLU()]
        for stage, (hidden, count) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(count):
                layers.append(BasicBlock(width, hidden, 2 if stage and not block else 1, norm))
                width = hidden
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.layers = nn.Sequential(*layers)
        self.pool = checks.choice("pool", pool, POOLS)
        self.normalise = normalise
        self.stride = 2 ** (len(channels) - 1)
        self.out_features = width

    def forward(self, patches: Tensor) -> Tensor:
        """Describe the patches.

        Args:
            patches: ``[M, C, Ph, Pw]`` floating point; also whole images.

        Returns:
            ``[M, D]``, nonnegative.

        Raises:
            TypeError: patches that are not floating point.
            ValueError: patches of other channels, or too small for instance norms.
        """
        checks.pixels("patches", patches, self.in_channels)
        if self.norm == "instance":
            require_map("patches", patches, self.stride)
        maps: Tensor = self.layers(patches)  # [M, D, h, w]
        features = maps.amax((2, 3)) if self.pool == "max" else maps.mean((2, 3))
        return F.normalize(features, dim=1, eps=1e-6) if self.normalise else features


def normalisation(norm: str, channels: int) -> nn.Module:
    """The affine normalisation that ``norm``, one of :data:`NORMS`, names."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    # one channel a group is the instance norm, which as torch has it (2.13) fails on an empty batch
    return nn.GroupNorm(channels if norm == "instance" else math.gcd(8, channels), channels)


def require_map(name: str, given: Tensor, stride: int) -> None:
    """What is ``given`` must leave more than one place at this stride, for an instance norm of one is a constant."""
    if max(given.shape[-2:]) <= stride:
        raise ValueError(
            f"{name} must have more than {stride} pixels one way, for an instance norm of a single place is a "
            f"constant; got {list(given.shape)}. Make them larger, or choose another norm or fewer strides."
        )


def _convolution(in_channels: int, channels: int, kernel_size: int, stride: int) -> nn.Module:
    """A convolution with "same" borders and no bias, which the normalisation behind it brings."""
    convolution = nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution

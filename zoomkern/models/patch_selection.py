"""Iterative patch selection: look at every patch without a gradient, learn from the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoomkern import checks
from zoomkern.functional import gather_patches
from zoomkern.functional.draws import require_drawable
from zoomkern.images.resolve import resolve_images
from zoomkern.models.arguments import PIXELS, PLACES, checked_reading, linear_classifier
from zoomkern.models.network import Network, device_of, evaluating
from zoomkern.models.whole_images import image_sizes
from zoomkern.nn import FeatureNetwork
from zoomkern.nn.cross_attention import CrossAttentionPooling
from zoomkern.typing import PADDED_OFFSET, ImageBatch


class PatchSelectionOutput(NamedTuple):
    """What one forward pass saw and concluded.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        index: ``[B, M]`` int64, the patches that were kept, the best first; counted row by row in their image's own
            grid, -1 where the image has no more.
        offsets: ``[B, M, 2]`` int64, their top-left ``(y, x)``; ``PADDED_OFFSET`` for padding.
        shares: ``[B, M]``, what each kept patch counts, the mean over heads; they add up to 1, with 0 for padding.
        pooled: ``[B, D]``.
    """

    scores: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    offsets: Tensor
    shares: Tensor
    pooled: Tensor


class IterativePatchSelection(Network):
    """Score every patch of the image in chunks without a gradient, keep the ``M`` best, and learn from those.

    A patch's score is its attention among all patches of its image, the mean over heads of ``softmax_i(a_ih)``, by the
    cross-attention that also pools the kept ones. Where patches were to be compared chunk by chunk, as in the published
    code, the softmax would run over a chunk, and which patches survive would depend on how the image was cut. Here only
    the logits of all patches are kept, a few bytes for each, and the softmax runs once over all of them: **any chunk
    size keeps the same patches**, ties going to the first. The kept patches are read a second time, with a gradient.

    Every patch is encoded in each step: time grows with the image, memory does not. The selection itself has no
    gradient and does not explore: a place that the fresh networks rank low is never learnt from, and where most patches
    are empty and few are kept, whether the object is found at all depends on how the weights happen to start.
    ``num_selected`` may be set between steps: many at first, fewer later. As in the original, scoring uses the encoder
    in evaluation mode and learning in training mode, so that a batch norm does not let patches of a chunk influence
    each other.

    **Borders.** Patches start every ``stride`` pixels; the last of a row or column is moved inside so that it ends with
    the image, so no remainder is left out as long as ``stride`` is at most the patch. Only where the image is smaller
    than a patch does one hang over, and shows ``fill``. Images may have different sizes, and so numbers of patches.

    Args:
        num_classes: number of classes ``K``.
        num_selected: patches kept per image, ``M``. With one alone the attention over it is constant, and learns
            nothing.
        patch_size: ``(h, w)`` of a patch, in output pixels.
        stride: pixels from patch to patch, ``(y, x)`` or one int; None is the patch, side by side.
        chunk: patches per image that are scored at a time.
        features: network from patches ``[M, C, Ph, Pw]`` to features ``[M, D]`` with an attribute ``out_features``;
            None is :class:`~zoomkern.nn.FeatureNetwork` on ``in_channels``.
        in_channels: image channels, for the network made here.
        heads: of the cross-attention, a divisor of ``D``.
        positions: add a sinusoidal embedding of each patch's place, counted in strides; ``D`` is divisible by four.
        **reading: further arguments of :func:`zoomkern.gather_patches`, such as ``mean``, ``std``, ``level``, ``step``.

    Memory:
        ``B * chunk`` patches while scoring, then ``B M`` with their features; 4 bytes per patch and head.

    Source:
        Bergner, Lippert & Mahendran, "Iterative Patch Selection for High-Resolution Image Recognition", ICLR 2023; the
        positions are sines of the place instead of a table of fixed length.

    Example:
        >>> model = IterativePatchSelection(4, 10, (100, 100), mean=0.5, std=0.5)
        >>> out = model(images)
    """

    inputs = ("images",)

    def __init__(
        self,
        num_classes: int,
        num_selected: int,
        patch_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        chunk: int = 64,
        features: nn.Module | None = None,
        in_channels: int = 3,
        heads: int = 8,
        positions: bool = False,
        **reading: Any,
    ) -> None:
        super().__init__()
        self.num_selected = checks.integer("num_selected", num_selected, 1)
        self.patch_size = checks.pair("patch_size", patch_size)
        step = checks.integer("step", reading.get("step", 1), 1)
        self.extent = (step * self.patch_size[0], step * self.patch_size[1])
        self.stride = self.extent if stride is None else checks.pair("stride", stride)
        self.chunk = checks.integer("chunk", chunk, 1)
        self.features = FeatureNetwork(in_channels) if features is None else features
        num_features = int(self.features.out_features)  # type: ignore[arg-type]
        if positions and num_features % 4:
            raise ValueError(f"positions need a feature size divisible by 4; got {num_features}. Leave them out.")
        self.positions = positions
        self.pooling = CrossAttentionPooling(num_features, heads)
        self.classifier = linear_classifier(num_features, num_classes)
        self.level = reading.pop("level", None)
        self.reading = checked_reading(reading, PIXELS + PLACES)

    def forward(
        self, images: Tensor | Sequence[Any] | ImageBatch, *, seed: int | Tensor | None = None
    ) -> PatchSelectionOutput:
        """Score, select, read again, conclude.

        Args:
            images: on the network's device, anything :func:`zoomkern.gather_patches` takes: page-locked images stay in
                host memory and are read patch by patch.
            seed: without effect, for nothing is drawn.

        Returns:
            Class scores with the patches behind them.
        """
        resolved = resolve_images(images, self.level, device_of(self))
        places = self._places(image_sizes(resolved), device_of(self))  # [B, L, 2]
        index = self.select(resolved, places)  # [B, M]
        found = places.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 2))
        offsets = torch.where((index < 0)[..., None], PADDED_OFFSET, found)
        features, mask = self._describe(resolved, offsets), index >= 0
        pooled: Tensor = self.pooling(features, mask)
        shares = self.pooling.attention(features, mask).mean(-1)
        return PatchSelectionOutput(self.classifier(pooled), index, offsets, shares, pooled)

    @torch.no_grad()
    def select(self, images: Tensor | list[Tensor] | ImageBatch, places: Tensor) -> Tensor:
        """``[B, M]`` int64, the patches of the highest attention, -1 where there are no more.

        Args:
            images: as :func:`zoomkern.gather_patches` takes them.
            places: ``[B, L, 2]`` int64 top-left corners; ``PADDED_OFFSET`` where an image has fewer.
        """
        with evaluating(self.features):
            parts = [self.pooling.logits(self._describe(images, part)) for part in places.split(self.chunk, 1)]
        there = places[..., 0] != PADDED_OFFSET  # [B, L]
        logits = torch.cat(parts, 1).masked_fill(~there[..., None], -torch.inf)
        require_drawable("the patches' attention", logits)
        score = logits.log_softmax(1).logsumexp(-1)  # the mean of the heads' attention but for a constant
        order = score.sort(dim=1, descending=True, stable=True).indices[:, : self.num_selected]
        index = torch.where(there.gather(1, order), order, -1)
        return nn.functional.pad(index, (0, self.num_selected - index.shape[1]), value=-1)

    def _places(self, sizes: list[tuple[int, int]], device: torch.device) -> Tensor:
        """Top-left corners ``[B, L, 2]`` of every image's patches, row by row, then ``PADDED_OFFSET``."""
        known = {size: self._corners(size, device) for size in set(sizes)}
        corners = [known[size] for size in sizes]
        if not corners:
            return torch.zeros(0, 1, 2, dtype=torch.int64, device=device)
        return nn.utils.rnn.pad_sequence(corners, batch_first=True, padding_value=PADDED_OFFSET)

    def _corners(self, size: tuple[int, int], device: torch.device) -> Tensor:
        axes = []
        for pixels, extent, stride in zip(size, self.extent, self.stride, strict=True):
            room = max(pixels - extent, 0)
            axes.append((torch.arange(-(-room // stride) + 1, device=device) * stride).clamp(max=room))
        return torch.cartesian_prod(*axes)

    def _describe(self, images: Tensor | list[Tensor] | ImageBatch, offsets: Tensor) -> Tensor:
        """Features ``[B, n, D]`` of the patches at ``offsets [B, n, 2]``."""
        patches = gather_patches(images, offsets, self.patch_size, **self.reading)
        features: Tensor = self.features(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        if not self.positions:
            return features
        axes = (offsets[..., axis].clamp(min=0).double() / self.stride[axis] for axis in (0, 1))
        coordinates = torch.stack(list(axes), -1)
        return features + sinusoidal(coordinates, features.shape[-1]).to(features.dtype)


def sinusoidal(coordinates: Tensor, num_features: int) -> Tensor:
    """Sines, then cosines, of ``y`` and then of ``x``, a quarter of the features each.

    Args:
        coordinates: ``[..., 2]`` floating point.
        num_features: ``D``, divisible by four.

    Returns:
        ``[..., D]``, wavelengths ``2 pi 10000^(4 i / D)`` for ``i`` from 0 to below ``D / 4``.

    Source:
        Vaswani et al., NeurIPS 2017.
    """
    steps = torch.arange(num_features // 4, device=coordinates.device) / (num_features // 4)
    angles = coordinates[..., None] * torch.exp(-math.log(10000.0) * steps)  # [..., 2, D / 4]
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)

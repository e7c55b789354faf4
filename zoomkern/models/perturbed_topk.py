"""Differentiable patch selection: the k best places, smoothed by noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoomkern import checks
from zoomkern.functional import sample_patches
from zoomkern.functional.draws import require_drawable
from zoomkern.models.arguments import PIXELS, PLACES, checked_reading, linear_classifier
from zoomkern.models.network import Network
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.nn.perturbation import perturbed_topk
from zoomkern.typing import ImageBatch

#: Standard deviation below which logits count as flat, so that noise decides.
FLAT = 0.01


class PerturbedTopKOutput(NamedTuple):
    """What one forward pass saw and concluded.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        attention: ``[B, Gh, Gw]`` logits, standardised where the network does that.
        index: ``[B, U]`` int64, the cells that were read, ascending; -1 for padding.
        offsets: ``[B, U, 2]`` int64, top-left ``(y, x)`` of their patches.
        indicators: ``[B, k, U]``, the share of each patch that was read in each patch that the features saw.
        patches: ``[B, k, C, Ph, Pw]``, what the features saw.
        pooled: ``[B, D]``.
    """

    scores: Tensor
    attention: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    offsets: Tensor
    indicators: Tensor
    patches: Tensor
    pooled: Tensor


class PerturbedTopK(Network):
    """Differentiable patch selection: patches of the ``k`` best places, averaged over noise on the scores.

    Slot ``j`` holds ``sum_l Y_jl patch_l``, where ``Y = 1/n sum_m topk(logits + sigma Z_m)`` says how often place ``l``
    was the ``j``-th of the chosen. Noise makes the choice differentiable, and blends the patches that compete. In
    evaluation mode the ``k`` best places are read, each as it is.

    Only places that some noise chose are read, at most ``n k`` however large the grid: the published and the public
    code read the whole grid of patches and hold ``n k`` one-hot rows of it. The gradient is that of
    :func:`~zoomkern.nn.perturbed_topk`, in expectation the Jacobian itself; a public re-implementation
    (benbergner/dps) multiplies it by ``k``.

    Noise that drowns the logits blends patches from everywhere. A classifier learns from such blends what it cannot
    use in evaluation, where patches are what they are, and attention learns nothing. So each image's logits are
    brought to mean 0 and standard deviation 1. (The original brings them into [0, 1], where ``sigma = 0.05`` is about
    as much as 0.3 here; the range of a flat attention, as it is at the start, has no derivative.) And ``model.sigma``
    may be set between steps: :class:`~zoomkern.training.noise.FallingNoise` lets it fall, as the original does.

    Args:
        num_classes: number of classes ``K``.
        k: patches per image that the features see.
        patch_size: ``(h, w)`` of a patch, in output pixels.
        num_noise: ``n``, noise vectors per image.
        sigma: standard deviation of the noise, in that of the logits.
        standardise: False leaves the logits as they are, whose scale the network then learns; ``sigma`` is in their
            unit.
        attention: network from the view ``[B, C, Vh, Vw]`` to logits ``[B, Gh, Gw]``; None is
            :class:`~zoomkern.nn.AttentionNetwork` on ``in_channels``.
        features: network from patches ``[M, C, Ph, Pw]`` to features ``[M, D]`` with an attribute ``out_features``;
            None is :class:`~zoomkern.nn.FeatureNetwork` on ``in_channels``.
        in_channels: image channels, for the networks made here.
        **reading: further arguments of :func:`zoomkern.sample_patches` that concern reading, such as ``mean``, ``std``,
            ``step``, ``align``, ``fill``.

    Memory:
        In training ``U = min(n k, Gh Gw)`` patches per image; shapes are static, so the width is this even where fewer
        were chosen, and the rest is padding. The features see ``k``.

    Source:
        Cordonnier et al., "Differentiable Patch Selection for Image Recognition", CVPR 2021; Berthet et al., NeurIPS
        2020.

    Example:
        >>> model = PerturbedTopK(4, 10, (100, 100), mean=0.5, std=0.5)
        >>> out = model(images, view)
    """

    inputs = ("images", "view")

    def __init__(
        self,
        num_classes: int,
        k: int,
        patch_size: int | tuple[int, int],
        *,
        num_noise: int = 100,
        sigma: float = 0.3,
        standardise: bool = True,
        attention: nn.Module | None = None,
        features: nn.Module | None = None,
        in_channels: int = 3,
        **reading: Any,
    ) -> None:
        super().__init__()
        self.k = checks.integer("k", k, 1)
        self.patch_size = checks.pair("patch_size", patch_size)
        self.num_noise = checks.integer("num_noise", num_noise, 2)
        self.sigma = checks.number("sigma", sigma)
        self.standardise = standardise
        self.attention = AttentionNetwork(in_channels) if attention is None else attention
        self.features = FeatureNetwork(in_channels) if features is None else features
        self.classifier = linear_classifier(self.features.out_features, num_classes)
        self.reading = checked_reading(reading, PIXELS + PLACES + ("level", "align"))

    def forward(
        self, images: Tensor | Sequence[Any] | ImageBatch, view: Tensor, *, seed: int | Tensor | None = None
    ) -> PerturbedTopKOutput:
        """Look, choose, read, conclude.

        Args:
            images: full-resolution images, anything :func:`zoomkern.sample_patches` takes.
            view: ``[B, C, Vh, Vw]`` anti-aliased low-resolution view, on the network's device.
            seed: of the noise, an int or int64 ``[B]``; None draws one from torch's generator. Without effect in
                evaluation mode.

        Returns:
            Class scores with the places and patches behind them.
        """
        logits: Tensor = self.attention(view)  # [B, Gh, Gw]
        if self.standardise:
            logits = standardised(logits)
        cells = logits.shape[1:].numel()
        if self.k > cells:
            raise ValueError(f"k must be at most {cells}, the number of cells; got {self.k}.")
        require_drawable("attention's logits", logits, self.k)
        hit, indicators = self._choose(logits.flatten(1), seed)
        # every item that was hit is read, in ascending order; 0 times a finite number, and NaN is refused as ever
        constant = (logits - logits).detach()
        drawn = sample_patches(
            images,
            constant,
            indicators.shape[2],
            self.patch_size,
            sampler="topk",
            mask=hit.view_as(logits),
            on_short="pad",
            **self.reading,
        )
        read = drawn.patches  # [B, U, C, Ph, Pw]
        blended = indicators.to(read.dtype) @ read.flatten(2)
        patches = blended.unflatten(2, read.shape[2:])  # [B, k, C, Ph, Pw]
        features: Tensor = self.features(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])  # [B, k, D]
        pooled = features.mean(1)
        scores = self.classifier(pooled)
        return PerturbedTopKOutput(scores, logits, drawn.index, drawn.offsets, indicators, patches, pooled)

    def _choose(self, logits: Tensor, seed: int | Tensor | None) -> tuple[Tensor, Tensor]:
        """The cells to read ``[B, L]``, and their shares in each slot ``[B, k, U]``."""
        if self.training:
            return perturbed_topk(logits, self.k, num_noise=self.num_noise, sigma=self.sigma, seed=seed)
        best = logits.detach().topk(self.k).indices
        hit = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, best, True)
        return hit, torch.eye(self.k, dtype=logits.dtype, device=logits.device).expand(len(logits), -1, -1)


def standardised(logits: Tensor) -> Tensor:
    """``[B, Gh, Gw]``, float32 or better, each image's with mean 0 and standard deviation 1.

    Where they are all but flat, the deviation is less. ``-inf`` masks a cell: it counts for nothing, and stays.
    """
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    masked = wide == -torch.inf
    count = (~masked).sum((1, 2), keepdim=True).clamp(min=1)
    there = wide.masked_fill(masked, 0.0)
    centred = (there - there.sum((1, 2), keepdim=True) / count).masked_fill(masked, 0.0)
    largest = centred.abs().amax((1, 2), keepdim=True)
    unit = torch.where(largest > 1e15, largest, 1.0)  # whose square is no infinity
    centred = centred / unit
    variance = centred.square().sum((1, 2), keepdim=True) / count
    return (centred * (variance + (FLAT / unit) ** 2).rsqrt()).masked_fill(masked, -torch.inf)

"""The perturbed top-k: which items are among the k largest, on average over noise, with its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zoomkern import checks
from zoomkern.functional.seeds import image_seeds
from zoomkern.reference.random import MASK32, philox

#: Philox stream of the noise; the samplers' streams end at 5.
NOISE_STREAM = 6


class PerturbedTopKSelection(NamedTuple):
    """The items that some noise put among the largest, and their average places.

    Args:
        hit: bool ``[B, L]``, whether any of the noise chose the item.
        indicators: ``[B, k, U]``, how often slot ``j`` held the ``u``-th item that was hit, in ascending order of
            items; rows sum to 1. ``U = min(num_noise * k, L)``; items that were not needed have zeros.
    """

    hit: Tensor
    indicators: Tensor


def perturbed_topk(
    logits: Tensor, k: int, *, num_noise: int = 100, sigma: float = 1.0, seed: int | Tensor | None = None
) -> PerturbedTopKSelection:
    """``Y = 1/n sum_m topk(logits + sigma Z_m)`` for standard normal ``Z_m``: an average of one-hot rows.

    ``topk`` names the ``k`` largest items in ascending order of their index: slot ``j`` holds the ``j``-th. ``Y``
    estimates ``E[topk(logits + sigma Z)]``, a smooth function of the logits. Only the items that were hit are kept.

    Args:
        logits: ``[B, L]``, floating point.
        k: number of items, at most ``L``.
        num_noise: ``n``, at least 2.
        sigma: standard deviation of the noise, in the unit of the logits.
        seed: an int, or int64 scalar or ``[B]``; None draws one from torch's generator. An image has the same noise in
            any batch, if it has the same seed.

    Returns:
        The items that were hit, and the indicators, float32 or better.

    Gradient:
        Unbiased towards ``logits``, as far as the loss is linear in ``Y``: for a gradient ``G`` of ``Y`` and
        ``s_m = <G, Y_m>`` it is ``1 / (sigma (n - 1)) sum_m (s_m - mean(s)) Z_m``. From each sample the mean of the
        *others* is subtracted, which leaves the expectation alone and takes out what all samples have in common.

    Memory:
        ``O(B n L)`` for the noise, in the forward and again in the backward pass, which makes it anew from the seed;
        between them ``O(B n k)``.

    Raises:
        ValueError: numbers that do not fit.
        TypeError: an argument of the wrong type.

    Source:
        Berthet et al., "Learning with Differentiable Perturbed Optimizers", NeurIPS 2020; Cordonnier et al., CVPR 2021.
    """
    checks.tensor("logits", logits, "a tensor [B, L]")
    checks.dtype("logits", logits.dtype, checks.FLOATS)
    if logits.ndim != 2:
        raise ValueError(f"logits must be [B, L]; got {list(logits.shape)}. Flatten a grid with .flatten(1).")
    batch, items = logits.shape
    checks.integer("k", k, 1)
    if k > items:
        raise ValueError(f"k must be at most {items}, the number of items; got {k}.")
    checks.integer("num_noise", num_noise, 2)
    sigma = checks.number("sigma", sigma)
    z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    seeds = image_seeds(seed, batch, logits.device)
    with torch.no_grad():
        perturbed = z[:, None] + sigma * gaussian_noise(seeds, num_noise, items).to(z.dtype)
        chosen = perturbed.topk(k).indices.sort(-1).values  # [B, n, k]
        hit = torch.zeros_like(z, dtype=torch.bool).scatter_(1, chosen.flatten(1), True)
        rank = hit.cumsum(1) - 1
        place = rank.gather(1, chosen.flatten(1)).view_as(chosen)
    return PerturbedTopKSelection(hit, _Indicators.apply(z, place, seeds, sigma, min(num_noise * k, items)))


class _Indicators(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, place: Tensor, seeds: Tensor, sigma: float, width: int) -> Tensor:
        """``[B, k, U]`` from the places ``[B, n, k]`` of the chosen items among those that were hit."""
        ctx.save_for_backward(place, seeds)
        ctx.sigma, ctx.items = sigma, logits.shape[1]
        batch, number, k = place.shape
        indicators = logits.new_zeros(batch, k, width)
        share = logits.new_full((), 1 / number).expand(batch, k, number)
        return indicators.scatter_add_(2, place.transpose(1, 2), share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """``1 / (sigma (n - 1)) sum_m (s_m - mean(s)) Z_m``."""
        place, seeds = ctx.saved_tensors
        number = place.shape[1]
        s = grad.gather(2, place.transpose(1, 2)).sum(1)  # [B, n]
        noise = gaussian_noise(seeds, number, ctx.items).to(grad.dtype)  # [B, n, L]
        centred = (s - s.mean(1, keepdim=True)) / (ctx.sigma * (number - 1))
        return (centred[:, None] @ noise).squeeze(1), None, None, None, None


def gaussian_noise(seeds: Tensor, number: int, items: int) -> Tensor:
    """``[B, number, items]`` float64 standard normal variates of each image's seed, on every device but for rounding.

    Args:
        seeds: int64 ``[B]``.
        number: noise vectors per image.
        items: ``L``.
    """
    group = torch.arange(-(-number * items // 4), dtype=torch.int64, device=seeds.device)
    zero = torch.zeros_like(group)
    counter = (group & MASK32, group >> 32, zero, zero + NOISE_STREAM)
    bits = torch.stack(philox(counter, seeds[:, None]), -1).flatten(1)[:, : number * items]
    return torch.special.ndtri((bits.double() + 0.5) / 2**32).unflatten(1, (number, items))

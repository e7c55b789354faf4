"""The pooled feature of a draw, and the gradients that were published for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

GRADIENTS = ("exact", "ats", "zoomin")


def expectation(
    features: Tensor, log_prob: Tensor, weight: Tensor, baseline: Tensor | None, gradient: str = "exact"
) -> Tensor:
    """``sum_i w_i exp(log_prob_i - stop(log_prob_i)) (f_i - b) + b sum_i w_i``.

    The value is ``sum_i w_i f_i``; the gradient towards ``log_prob_i`` is ``w_i <g, f_i - b>``.

    Args:
        features: ``[B, N, D]``.
        log_prob: ``[B, N]``.
        weight: ``[B, N]``, a constant.
        baseline: ``[B, D]``, a constant independent of the draw; None is 0.
        gradient: ``exact``, or a published one (:class:`PublishedExpectation`).

    Returns:
        ``[B, D]`` in the type of ``features``.
    """
    kind = torch.float64 if features.dtype == torch.float64 else torch.float32
    f, lp, w = features.to(kind), log_prob.to(kind)[..., None], weight.detach().to(kind)[..., None]
    if gradient == "exact":
        b = f.new_zeros(()) if baseline is None else baseline.detach().to(kind)[:, None]
        pooled = (w * torch.exp(lp - lp.detach()) * (f - b)).sum(1) + (b * w).sum(1)
    else:
        pooled = PublishedExpectation.apply(f, lp, w, gradient == "zoomin")
    return pooled.to(features.dtype)


class PublishedExpectation(torch.autograd.Function):
    """The gradients of ATS (exclusive sums) and of the Zoom-In code (inclusive sums), both biased.

    They hold for ordered draws without replacement; see Katharopoulos & Fleuret, ICML 2019.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, log_prob: Tensor, w: Tensor, inclusive: bool) -> Tensor:
        """``sum_i w_i f_i`` for ``f [B, N, D]``, ``log_prob`` and ``w [B, N, 1]``."""
        ctx.save_for_backward(f, log_prob, w)
        ctx.inclusive = inclusive
        return (w * f).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """``1/N (pm_j + (N - 1 - j) a_j) g`` and ``a_j / N <g, F_j pm_j / a_j + sum_l f_l - j f_j>``."""
        f, log_prob, w = ctx.saved_tensors
        drawn = (w != 0).to(f.dtype)
        n = drawn.sum(1, keepdim=True).clamp(min=1)  # [B, 1, 1]
        a, g = log_prob.exp() * drawn, grad[:, None]
        j = torch.arange(f.shape[1], dtype=f.dtype, device=f.device)[:, None]
        af = a * f
        before = af.cumsum(1) - af  # sum_{l<j} a_l f_l
        left = 1 - (a.cumsum(1) - a)  # mass before draw j
        single = before + left * f  # F_j, the same with inclusive sums
        mass = left - a if ctx.inclusive else left
        sums = f.cumsum(1) if ctx.inclusive else f.cumsum(1) - f
        grad_f = drawn * (mass + (n - 1 - j) * a) / n * g
        grad_log_prob = drawn * (g * (single * mass + a * (sums - j * f))).sum(-1, keepdim=True) / n
        return grad_f, grad_log_prob, None, None

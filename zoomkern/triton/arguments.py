"""What kernels would read wrongly is refused before any starts: shapes, types and devices, never values."""

from __future__ import annotations

import torch
from torch import Tensor

GUMBEL, THRESHOLD, REPLACEMENT, TOPK = range(4)  # positions in zoomkern.reference.sampling.SAMPLERS
MURTHY, DESRAJ = range(2)  # positions in ESTIMATORS["gumbel"] there
SCORE_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(holds: bool, words: str) -> None:
    """An error with these words unless the condition holds."""
    if not holds:
        raise RuntimeError(f"zoomkern: {words}")


def check_scores(logits: Tensor, mask: Tensor | None, *others: Tensor | None) -> None:
    """``logits [B, L]`` of a floating type, ``mask`` of its shape, and all on one device."""
    require(logits.ndim == 2, "logits must be [B, L]")
    require(logits.dtype in SCORE_DTYPES, "logits must be floating point")
    if mask is not None:
        require(mask.dtype == torch.bool, "mask must be bool")
        require(mask.shape == logits.shape, "mask must have the shape of logits")
    for other in (mask, *others):
        require(other is None or other.device == logits.device, "all tensors must be on the device of logits")


def check_codes(sampler: int, estimator: int) -> None:
    """A sampler, and an estimator of it."""
    require(GUMBEL <= sampler <= TOPK, "unknown sampler")
    require(estimator == MURTHY or (sampler == GUMBEL and estimator == DESRAJ), "unknown estimator")


def check_draw(batch: int, items: int, seed: Tensor, counts: Tensor | None, num_samples: int, grid_width: int) -> None:
    """``seed`` a scalar or ``[B]`` and ``counts [B]``, both int64; a grid's width, or 0."""
    require(seed.dtype == torch.int64, "seed must be int64")
    require(seed.shape in ((), (batch,)), "seed must be a scalar or [B]")
    if counts is not None:
        require(counts.dtype == torch.int64, "counts must be int64")
        require(counts.shape == (batch,), "counts must be [B]")
    require(num_samples >= 0, "num_samples must not be negative")
    require(grid_width == 0 or (grid_width > 0 and items % grid_width == 0), "grid_width must divide the items")


def check_index(batch: int, index: Tensor) -> None:
    """``index [B, N]`` int64."""
    require(index.dtype == torch.int64, "index must be int64")
    require(index.ndim == 2 and index.shape[0] == batch, "index must be [B, N]")


def check_gradient(batch: int, grad: Tensor, index: Tensor, lse: Tensor) -> None:
    """``grad_log_prob`` of the shape of ``index [B, N]``, and ``lse [B, 2]`` float64."""
    check_index(batch, index)
    require(lse.dtype == torch.float64, "lse must be float64")
    require(lse.shape == (batch, 2), "lse must be [B, 2]")
    require(grad.shape == index.shape, "grad_log_prob must be [B, N]")

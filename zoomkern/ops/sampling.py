"""Contract of ``sampling``: draw items of a softmax, and weigh the draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoomkern.ops.derivatives import first_order
from zoomkern.ops.library import namespace, register_shapes
from zoomkern.reference import sampling as reference
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS

# The overloads themselves: a microsecond less than choosing among one.
_draw = {backend: namespace(backend).sample.default for backend in ("cpu", "cuda", "triton")}


def codes(sampler: str, estimator: str) -> tuple[int, int]:
    """The integers that stand for a sampler and its weight rule in the schemas."""
    return SAMPLERS.index(sampler), ESTIMATORS[sampler].index(estimator)


def probability_dtype(logits: Tensor) -> torch.dtype:
    """log_prob and weight are float64 for float64 logits, float32 for all others."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def fake_draw(logits: Tensor, num_samples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes of index, log_prob, weight and lse: the maximum of a row, and the log of the sum of exp(x - maximum)."""
    shape, kind = (logits.shape[0], num_samples), probability_dtype(logits)
    return (
        logits.new_empty(shape, dtype=torch.int64),
        logits.new_empty(shape, dtype=kind),
        logits.new_empty(shape, dtype=kind),
        logits.new_empty((shape[0], 2), dtype=torch.float64),
    )


@register_shapes("sample")
def _(logits, mask, seed, counts, num_samples, sampler, estimator, pad, grid_width):  # type: ignore[no-untyped-def]
    return fake_draw(logits, num_samples)


@register_shapes("draw_weights")
def _(logits, mask, index, sampler, estimator):  # type: ignore[no-untyped-def]
    return fake_draw(logits, index.shape[1])[1:]


@register_shapes("sample_backward")
def _(grad_log_prob, logits, mask, index, lse):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def logits_gradient(
    backend: str, grad_log_prob: Tensor, logits: Tensor, mask: Tensor | None, index: Tensor, lse: Tensor
) -> Tensor:
    """Gradient towards the logits; 16-bit ones are added up in float32 and rounded once."""
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return namespace(backend).sample_backward(grad_log_prob, wide, mask, index, lse).to(logits.dtype)


class Sampling(torch.autograd.Function):
    """index, log_prob and weight; log_prob is differentiable towards the logits."""

    @staticmethod
    def forward(
        ctx: Any, backend: str, logits: Tensor, mask: Tensor | None, *arguments: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``arguments``: those of the op after the mask."""
        index, log_prob, weight, lse = _draw[backend](logits, mask, *arguments)
        ctx.mark_non_differentiable(index, weight)
        ctx.save_for_backward(logits, mask, index, lse)
        ctx.backend = backend
        ctx.arguments = len(arguments)
        return index, log_prob, weight

    @staticmethod
    @first_order
    def backward(ctx: Any, _index: Tensor, grad_log_prob: Tensor, _weight: Tensor) -> tuple[Tensor | None, ...]:
        """``grad logit_i = sum_{j drawn i} g_j - p_i sum_j g_j``."""
        logits, mask, index, lse = ctx.saved_tensors
        grad = logits_gradient(ctx.backend, grad_log_prob, logits, mask, index, lse)
        return None, grad, *([None] * (1 + ctx.arguments))


class Weighing(torch.autograd.Function):
    """log_prob and weight of a draw that is given."""

    @staticmethod
    def forward(
        ctx: Any, backend: str, logits: Tensor, mask: Tensor | None, index: Tensor, sampler: int, estimator: int
    ) -> tuple[Tensor, Tensor]:
        """``sampler`` and ``estimator``: their codes."""
        log_prob, weight, lse = namespace(backend).draw_weights(logits, mask, index, sampler, estimator)
        ctx.mark_non_differentiable(weight)
        ctx.save_for_backward(logits, mask, index, lse)
        ctx.backend = backend
        return log_prob, weight

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_log_prob: Tensor, _weight: Tensor) -> tuple[Tensor | None, ...]:
        """As :meth:`Sampling.backward`."""
        return None, logits_gradient(ctx.backend, grad_log_prob, *ctx.saved_tensors), None, None, None, None


def sample(
    logits: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    counts: Tensor | None,
    num_samples: int,
    sampler: str,
    estimator: str,
    pad: bool,
    grid_width: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """index, log_prob, weight: ``[B, N]`` each; arguments as :func:`zoomkern.reference.sampling.sample`."""
    if backend == "reference":
        return reference.sample(logits, mask, seed, counts, num_samples, sampler, estimator, pad, grid_width)
    arguments = (logits, mask, seed, counts, num_samples, *codes(sampler, estimator), pad, grid_width)
    if logits.requires_grad and torch.is_grad_enabled():
        return Sampling.apply(backend, *arguments)
    return _draw[backend](*arguments)[:3]


def draw_weights(
    logits: Tensor, mask: Tensor | None, index: Tensor, sampler: str, estimator: str, backend: str
) -> tuple[Tensor, Tensor]:
    """log_prob and weight of a draw that is given: ``[B, N]`` each."""
    if backend == "reference":
        return reference.draw_weights(logits, mask, index, sampler, estimator)
    return Weighing.apply(backend, logits, mask, index, *codes(sampler, estimator))

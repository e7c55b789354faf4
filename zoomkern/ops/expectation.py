"""Contract of ``expectation``: the pooled feature of a draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoomkern.ops.derivatives import first_order
from zoomkern.ops.library import register_shapes
from zoomkern.reference import expectation as reference
from zoomkern.reference.expectation import GRADIENTS

native = torch.ops.zoomkern


@register_shapes("expectation")
def _(features, weight):  # type: ignore[no-untyped-def]
    return features.new_empty((features.shape[0], features.shape[2]))


@register_shapes("expectation_backward")
def _(grad, features, log_prob, weight, baseline, gradient):  # type: ignore[no-untyped-def]
    return torch.empty_like(features, memory_format=torch.contiguous_format), torch.empty_like(log_prob)


class Expectation(torch.autograd.Function):
    """``sum_i w_i f_i`` for ``features [B, N, D]``, differentiable towards features and log_prob."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, log_prob: Tensor, weight: Tensor, baseline: Tensor | None, gradient: int
    ) -> Tensor:
        """``baseline``: ``[B, D]``."""
        ctx.save_for_backward(features, log_prob, weight, baseline)
        ctx.gradient = gradient
        return native.expectation(features, weight)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """``w_i g`` towards feature i and ``w_i <g, f_i - b>`` towards log_prob i."""
        return *native.expectation_backward(grad, *ctx.saved_tensors, ctx.gradient), None, None, None


def expectation(
    features: Tensor, log_prob: Tensor, weight: Tensor, baseline: Tensor | None, gradient: str, backend: str
) -> Tensor:
    """``[B, D]`` from ``features [B, N, D]``; as :func:`zoomkern.reference.expectation.expectation`."""
    if backend != "cpu":  # a GPU's is plain torch
        return reference.expectation(features, log_prob, weight, baseline, gradient)
    if torch.is_grad_enabled() and (features.requires_grad or log_prob.requires_grad):
        code = GRADIENTS.index(gradient)
        return Expectation.apply(features, log_prob, weight, baseline, code)
    return native.expectation(features, weight)

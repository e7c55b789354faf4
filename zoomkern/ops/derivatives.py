"""What our derivatives are: of first order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Twice(torch.autograd.Function):
    """The identity, whose derivative is an error."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError("zoomkern has no second derivatives on compiled backends; pass backend='reference'.")


def first_order(backward: Callable[..., Any]) -> Any:
    """Marks a backward pass that cannot be differentiated again: who tries gets an error instead of a zero."""
    once = once_differentiable(backward)

    @functools.wraps(backward)
    def marked(ctx: Any, *grads: Any) -> Any:
        results = once(ctx, *grads)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return results
        every = results if isinstance(results, tuple) else (results,)
        marks = [
            _Twice.apply(r.detach().requires_grad_()) if isinstance(r, Tensor) and r.is_floating_point() else r
            for r in every
        ]
        return tuple(marks) if isinstance(results, tuple) else marks[0]

    return marked

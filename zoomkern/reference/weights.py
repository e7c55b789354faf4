"""Weights of a draw without replacement, from the probabilities of the drawn items.

Source: Des Raj, JASA 1956; Murthy, Sankhya 1957; Kool et al., "Estimating gradients for discrete random variables by
sampling without replacement", ICLR 2020 (the unordered set estimator is Murthy's).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-130
#: The quadrature, for each accuracy: by how many nats the integrand falls before it is cut off, the widest step in
#: ``log s``, and the fewest steps. With step h the error is about exp(-7 / h).
RULES = {torch.float32: (20.0, 0.25, 14), torch.float64: (38.0, 0.2, 48)}
BISECTIONS = 50


def desraj(prob: Tensor, rest: Tensor) -> Tensor:
    """``w_j = (1/n) (mass before draw j was made + (n - j) p_j)``.

    Args:
        prob: ``[n]`` float64, in the order of drawing.
        rest: float64 scalar, the mass of all items that were not drawn.
    """
    n = prob.shape[0]
    left = rest + prob.flip(0).cumsum(0).flip(0)  # 1 - sum_{l<j} p_l without its cancellation
    later = torch.arange(n - 1, -1, -1, dtype=prob.dtype, device=prob.device)
    return (left + later * prob) / n


def murthy(prob: Tensor, rest: Tensor, accuracy: torch.dtype) -> Tensor:
    """``w_i = p_i P(S | i first) / P(S)``: the mean of :func:`desraj` over all orders of the drawn set.

    With ``c_i = p_i / rest`` and ``h(s) = e^-s prod_j (1 - e^(-c_j s))`` it is
    ``w_i = p_i int h(s) / (1 - e^(-c_i s)) ds / int h(s) ds``. Both integrands are log-concave in ``t = log s``, where
    the trapezoid rule converges exponentially.
    """
    if float(rest) <= 0.0:
        return prob
    c = prob.clamp(min=TINY) / rest.clamp(min=TINY)  # [n]

    def log_factors(t: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-c * torch.exp(t)[:, None]))  # [nodes, n]

    def log_h(t: Tensor) -> Tensor:
        return t - torch.exp(t) + log_factors(t).sum(-1)

    fall, widest, fewest = RULES[accuracy]
    mode = _mode(c).log()

    def left_fall(t: Tensor) -> Tensor:  # of the integrand that falls slowest to the left
        return log_h(t) - log_factors(t).amin(-1)

    start = _fallen(left_fall, mode, -1.0, fall)
    stop = _fallen(log_h, mode, 1.0, fall)
    steps = max(fewest, math.ceil(float(stop - start) / widest))
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=c.device) * (stop - start) + start
    factors = log_factors(t)
    log_value = t - torch.exp(t) + factors.sum(-1)
    top = log_value.max()
    ratio = torch.exp(log_value[:, None] - factors - top).sum(0) / torch.exp(log_value - top).sum()
    weight = prob * ratio
    return weight * ((prob.sum() + rest) / weight.sum())  # both sums are 1 but for the quadrature's error


def _mode(c: Tensor) -> Tensor:
    """``s`` at which ``s h(s)`` is largest: the root of ``1 - s + sum_j c_j s / (e^(c_j s) - 1)``, in [1, n + 1]."""
    low, high = (
        torch.ones((1,), dtype=c.dtype, device=c.device),
        torch.full((1,), c.shape[0] + 1.0, dtype=c.dtype, device=c.device),
    )
    for _ in range(BISECTIONS):
        s = (low + high) / 2
        rises = 1 - s + (c * s / torch.expm1(c * s).clamp(min=TINY)).nan_to_num(0.0).sum() > 0
        low, high = torch.where(rises, s, low), torch.where(rises, high, s)
    return low


def _fallen(log_value, mode: Tensor, side: float, fall: float) -> Tensor:  # type: ignore[no-untyped-def]
    """Where, on one side of the mode, a log-concave function has fallen by ``fall`` below its value there."""
    at_mode = log_value(mode)
    near, far = torch.zeros_like(mode), torch.ones_like(mode)
    while bool(log_value(mode + side * far) > at_mode - fall):
        near, far = far, 2 * far
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        fallen = log_value(mode + side * middle) < at_mode - fall
        near, far = torch.where(fallen, near, middle), torch.where(fallen, middle, far)
    return mode + side * far

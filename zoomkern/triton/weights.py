"""Weights of a draw without replacement: the formulas are told in ``zoomkern/reference/weights.py``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TINY = 1e-130
#: The quadrature, for each accuracy: by how many nats the integrand falls before it is cut off, the widest step in
#: ``log s``, the fewest steps, and what share of its distance from the mode an end may be too far. At step h the error
#: is about exp(-7 / h), or exp(-20 (width / h)^2) where the integrand is narrow: its width is at least 1 / sqrt(2 n).
RULES = {torch.float32: (20.0, 0.25, 14, 0.125), torch.float64: (38.0, 0.2, 48, 0.5**9)}
#: More nodes than any row needs: the integrand falls at least as e^t to the left, and faster to the right.
NODES = 512
BLOCK = 1024


def desraj(prob: Tensor, rest: Tensor, draws: Tensor) -> Tensor:
    """``w_j = (1/n) (mass before draw j was made + (n - j) p_j)``; what stands behind the draws of a row is nonsense.

    Args:
        prob: ``[B, N]`` float64, in the order of drawing, 0 behind the draws of a row.
        rest: ``[B]`` float64, the mass of all items that were not drawn.
        draws: ``[B]`` int64.
    """
    batch, width = prob.shape
    n = draws[:, None]
    left = torch.empty_like(prob)  # 1 - sum_{l<j} p_l without its cancellation
    block = min(max(triton.next_power_of_2(width), 16), BLOCK)
    _sums_from[(batch,)](prob, rest, left, width, BLOCK=block, enable_fp_fusion=False)
    later = n - 1 - torch.arange(width, device=prob.device)
    return (left + later * prob) / n.clamp(min=1)


@triton.jit(do_not_specialize=["width"])
def _sums_from(prob, rest, left, width, BLOCK: tl.constexpr):
    """For each draw of a row the rest and all draws from it on, in one order; torch's ``cumsum`` promises none."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.load(rest + row)
    for start in range(0, width, BLOCK):
        j = width - 1 - start - tl.arange(0, BLOCK)
        p = tl.load(prob + row * width + j, mask=j >= 0, other=0.0)
        tl.store(left + row * width + j, total + tl.cumsum(p, 0), mask=j >= 0)
        total += tl.sum(p, 0)


@triton.jit
def _filled(x):
    """``1 - e^-x`` for ``x >= 0``; below 1 by Kahan's quotient, in which the rounding of ``e^-x`` cancels."""
    empty = tl.exp(-x)
    inside = (x < 1.0) & (empty < 1.0)
    part = tl.where(inside, empty, 0.5)
    return tl.where(inside, (1.0 - part) * x / -tl.log(part), tl.where(x < 1.0, x, 1.0 - empty))


@triton.jit
def _log_value(ratio, row, width, n, slowest, t, LEFT: tl.constexpr, BLOCK: tl.constexpr):
    """Log of the integrand at ``s = e^t``; to the left of the one that falls slowest, without its smallest factor."""
    s = tl.exp(t)
    total = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        c = tl.load(ratio + row * width + j, mask=j < n, other=1.0)
        total += tl.where(j < n, tl.log(_filled(c * s)), 0.0)
    value = t - s + tl.sum(total, 0)
    if LEFT:
        value -= tl.log(_filled(slowest * s))
    return value


@triton.jit
def _mode(ratio, row, width, n, BLOCK: tl.constexpr):
    """Near the root in [1, n + 1] of ``1 - s + sum_j c_j s / (e^(c_j s) - 1)``: within four nats of its top."""
    low = tl.full((), 1.0, tl.float64)
    high = low + n
    near = tl.minimum(0.25, 2.0 / tl.sqrt(tl.maximum(low * n, low)))
    while high - low > near * low:
        s = 0.5 * (low + high)
        total = tl.zeros((BLOCK,), tl.float64)
        for start in range(0, n, BLOCK):
            j = start + tl.arange(0, BLOCK)
            x = tl.load(ratio + row * width + j, mask=j < n, other=1.0) * s
            total += tl.where((j < n) & (x < 700.0), x * tl.exp(-x) / _filled(x), 0.0)
        rises = 1.0 - s + tl.sum(total, 0) > 0.0
        low = tl.where(rises, s, low)
        high = tl.where(rises, high, s)
    return low


@triton.jit
def _fallen(ratio, row, width, n, slowest, mode, fall, SLACK: tl.constexpr, LEFT: tl.constexpr, BLOCK: tl.constexpr):
    """How far to one side of the mode the integrand has fallen by ``fall`` nats."""
    floor = _log_value(ratio, row, width, n, slowest, mode, LEFT, BLOCK) - fall
    side = -1.0 if LEFT else 1.0
    near = tl.full((), 0.0, tl.float64)
    far = near + 1.0
    while _log_value(ratio, row, width, n, slowest, mode + side * far, LEFT, BLOCK) > floor:
        near = far
        far = 2.0 * far
    while far - near > SLACK * far:
        middle = 0.5 * (near + far)
        fallen = _log_value(ratio, row, width, n, slowest, mode + side * middle, LEFT, BLOCK) < floor
        near = tl.where(fallen, near, middle)
        far = tl.where(fallen, middle, far)
    return far


@triton.jit(do_not_specialize=["width"])
def _nodes(
    ratio,
    draws,
    place,
    value,
    count,
    width,
    FALL: tl.constexpr,
    WIDEST: tl.constexpr,
    FEWEST: tl.constexpr,
    SLACK: tl.constexpr,
    NODES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The nodes ``s`` of one row's quadrature and the integrand there, up to a factor, and how many there are."""
    row = tl.program_id(0).to(tl.int64)
    n = tl.load(draws + row)
    least = tl.full((BLOCK,), float("inf"), tl.float64)
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        least = tl.minimum(least, tl.load(ratio + row * width + j, mask=j < n, other=float("inf")))
    slowest = tl.min(least, 0)
    mode = tl.log(_mode(ratio, row, width, n, BLOCK))
    top = _log_value(ratio, row, width, n, slowest, mode, False, BLOCK)
    start = mode - _fallen(ratio, row, width, n, slowest, mode, FALL, SLACK, True, BLOCK)
    stop = mode + _fallen(ratio, row, width, n, slowest, mode, FALL, SLACK, False, BLOCK)
    steps = tl.minimum(tl.maximum(tl.ceil((stop - start) / WIDEST), FEWEST), NODES - 1).to(tl.int32)
    tl.store(count + row, steps + 1)
    for k in range(steps + 1):
        t = start + (stop - start) * k / steps
        tl.store(place + row * NODES + k, tl.exp(t))
        log_value = _log_value(ratio, row, width, n, slowest, t, False, BLOCK)
        tl.store(value + row * NODES + k, tl.exp(log_value - top))


@triton.jit(do_not_specialize=["width", "tiles"])
def _quadrature(ratio, place, value, count, integral, width, tiles, NODES: tl.constexpr, BLOCK: tl.constexpr):
    """``int h(s) / (1 - e^(-c_i s)) ds / int h(s) ds`` for a tile of the draws of one row."""
    program = tl.program_id(0).to(tl.int64)
    row, j = program // tiles, program % tiles * BLOCK + tl.arange(0, BLOCK)
    c = tl.load(ratio + row * width + j, mask=j < width, other=1.0)
    total = tl.zeros((BLOCK,), tl.float64)
    whole = tl.full((), 0.0, tl.float64)
    for k in range(tl.load(count + row)):
        here = tl.load(value + row * NODES + k)
        total += here / _filled(c * tl.load(place + row * NODES + k))
        whole += here
    tl.store(integral + row * width + j, total / whole, mask=j < width)


def murthy(prob: Tensor, rest: Tensor, draws: Tensor, accuracy: torch.dtype) -> Tensor:
    """``w_i = p_i P(S | i first) / P(S)``: the mean of :func:`desraj` over all orders of the drawn set."""
    batch, width = prob.shape
    fall, widest, fewest, slack = RULES[accuracy]
    ratio = prob.clamp(min=TINY) / rest.clamp(min=TINY)[:, None]
    place, value = ratio.new_empty((2, batch, NODES))
    count = torch.empty_like(draws)
    block = min(max(triton.next_power_of_2(width), 16), BLOCK)
    _nodes[(batch,)](
        ratio,
        draws,
        place,
        value,
        count,
        width,
        FALL=fall,
        WIDEST=widest,
        FEWEST=fewest,
        SLACK=slack,
        NODES=NODES,
        BLOCK=block,
        enable_fp_fusion=False,
    )
    integral = torch.empty_like(ratio)
    tiles = triton.cdiv(width, block)
    _quadrature[(batch * tiles,)](
        ratio, place, value, count, integral, width, tiles, NODES=NODES, BLOCK=block, enable_fp_fusion=False
    )
    weight = prob * integral
    return weight * ((prob.sum(1) + rest) / weight.sum(1))[:, None]  # both sums are 1 but for the quadrature's error

"""Integer fixed-point masses of a softmax: sums that come out the same in any order.

A mass is ``round(exp(logit - maximum) * 2^bits)``, at least 1 for an item that may be drawn, with as many bits as keep
the sum of ``L`` of them below 2^62.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoomkern.reference import exact

SUM_BITS = 62
MOST_BITS = 52  # the mantissa of a float64


class Cut(NamedTuple):
    """How threshold sampling divides a row: items of mass ``tau`` or more are certain, the rest share ``draws``."""

    tau: int
    certain: int
    draws: int
    rest: int


def fixed_point(scores: Tensor) -> Tensor:
    """``[L]`` int64 masses of one row of float64 scores, 0 where the score is -inf."""
    items = scores.shape[-1]
    bits = min(MOST_BITS, SUM_BITS - max(items - 1, 1).bit_length())
    mass = torch.round(exact.exp(scores - scores.max()) * 2.0**bits).to(torch.int64).clamp(min=1)
    return torch.where(scores == -torch.inf, 0, mass)


def cut(mass: Tensor, draws: int) -> Cut:
    """Solve ``sum_i min(1, c p_i) = draws`` for one row that has at least ``draws`` items of positive mass."""
    top = mass.topk(draws).values  # only the largest can be certain
    rest = mass.sum() - (top.cumsum(0) - top)  # mass left when the k largest are set aside
    open_draws = torch.arange(draws, 0, -1, device=mass.device)
    certain = int((open_draws * top >= rest).sum())
    tau = int(top[certain - 1]) if certain else torch.iinfo(torch.int64).max
    return Cut(tau, certain, draws - certain, int(mass.sum() - top[:certain].sum()))


def inclusion(mass: Tensor, cut: Cut) -> Tensor:
    """Probability, float64, that an item of the given mass is drawn."""
    pi = mass.to(torch.float64) * (cut.draws / max(cut.rest, 1))
    return torch.where(mass >= cut.tau, 1.0, pi)


def serpentine(items: int, grid_width: int, device: torch.device) -> Tensor:
    """``[L]`` items along a walk that turns at the end of every grid row; index order if ``grid_width`` is 0."""
    order = torch.arange(items, device=device)
    if grid_width == 0:
        return order
    row, column = order // grid_width, order % grid_width
    return row * grid_width + torch.where(row % 2 == 0, column, grid_width - 1 - column)

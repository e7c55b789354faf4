"""Integer fixed-point masses of a softmax, and the samplers that add them: ``zoomkern/reference/masses.py``.

The sums are torch's, of int64, which come out the same in any order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.triton import exact, random
from zoomkern.triton.statistics import chunk_of, load_scores

SUM_BITS = 62
MOST_BITS = 52
#: Adding it rounds a double in [0, 2^52] to an integer, half to even.
TO_INTEGER = tl.constexpr(2.0**52)


class Cut(NamedTuple):
    """How threshold sampling divides rows, ``[B]`` each: items of mass ``tau`` or more are certain, the rest share."""

    tau: Tensor
    certain: Tensor
    draws: Tensor
    rest: Tensor
    heaviest: Tensor  #: ``[B, K]`` items of the largest masses, the certain ones first

    def inclusion(self, mass: Tensor) -> Tensor:
        """``[B, N]`` probability, float64, that an item of the given mass is drawn."""
        share = self.draws.double() / self.rest.clamp(min=1).double()
        return torch.where(mass >= self.tau[:, None], 1.0, mass.double() * share[:, None])


@triton.jit(do_not_specialize=["scale", "chunks"])
def _masses(scores, top, mass, scale, items, chunks, CHUNK: tl.constexpr):
    row, first = chunk_of(chunks, CHUNK)
    score, item, _ = load_scores(scores, row, first, items, CHUNK)
    part = exact.exp(score - tl.load(top + row)) * scale
    whole = ((part + TO_INTEGER) - TO_INTEGER).to(tl.int64)
    tl.store(mass + row * items + item, tl.where(score > -float("inf"), tl.maximum(whole, 1), 0), mask=item < items)


@triton.jit(do_not_specialize=["count", "blocks", "stream"])
def _points(seed, bound, point, count, blocks, stream, ROW_SEEDS: tl.constexpr, BLOCK: tl.constexpr):
    row, first = chunk_of(blocks, BLOCK)
    own, number = random.row_key(seed, row, ROW_SEEDS)
    high = random.words(own, first, number, stream, BLOCK).to(tl.uint64)
    low = random.words(own, first, number, stream + 1, BLOCK).to(tl.uint64)
    draw = first + tl.arange(0, BLOCK)
    below = tl.umulhi((high << 32) | low, tl.load(bound + row).to(tl.uint64))
    tl.store(point + row * count + draw, below.to(tl.int64), mask=draw < count)


def fixed_point(scores: Tensor, top: Tensor, chunk: int) -> Tensor:
    """``[B, L]`` int64 masses of ``scores [B, L]``, 0 where the score is -inf."""
    batch, items = scores.shape
    chunks = triton.cdiv(items, chunk)
    mass = scores.new_empty((batch, items), dtype=torch.int64)
    scale = 2.0 ** min(MOST_BITS, SUM_BITS - max(items - 1, 1).bit_length())  # a power of two: exact as a float32
    _masses[(batch * chunks,)](scores, top, mass, scale, items, chunks, CHUNK=chunk, enable_fp_fusion=False)
    return mass


def points(seed: Tensor, bound: Tensor, count: int, stream: int) -> Tensor:
    """``[B, count]`` integers, uniform below ``bound [B]``, each from the 64 bits of its number."""
    block = min(max(triton.next_power_of_2(count), 4), 1024)
    blocks = triton.cdiv(count, block)
    point = bound.new_empty((bound.shape[0], count))
    _points[(bound.shape[0] * blocks,)](
        seed.contiguous(),
        bound,
        point,
        count,
        blocks,
        stream,
        ROW_SEEDS=seed.ndim == 1,
        BLOCK=block,
        enable_fp_fusion=False,
    )
    return point


def cut(mass: Tensor, draws: Tensor, most: int) -> Cut:
    """Solve ``sum_i min(1, c p_i) = draws`` for rows with at least ``draws [B] <= most`` items of positive mass."""
    top, heaviest = mass.topk(most, dim=1)  # only the largest can be certain
    left = draws[:, None] - torch.arange(most, device=mass.device)
    upto = top.cumsum(1)
    total = mass.sum(1)
    certain = ((left > 0) & (left * top >= total[:, None] - (upto - top))).sum(1)
    last = (certain - 1).clamp(min=0)[:, None]
    some = certain > 0
    tau = torch.where(some, top.gather(1, last)[:, 0], torch.iinfo(torch.int64).max)
    rest = total - torch.where(some, upto.gather(1, last)[:, 0], 0)
    return Cut(tau, certain, draws - certain, rest, heaviest)


def serpentine(items: int, grid_width: int, device: torch.device) -> Tensor:
    """``[L]`` items along a walk that turns at the end of every grid row."""
    order = torch.arange(items, device=device)
    row, column = order // grid_width, order % grid_width
    return row * grid_width + torch.where(row % 2 == 0, column, grid_width - 1 - column)


def draw_replacement(mass: Tensor, seed: Tensor, draws: int) -> Tensor:
    """``[B, draws]`` independent draws."""
    along = mass.cumsum(1)
    point = points(seed, along[:, -1].contiguous(), draws, random.REPLACEMENT_STREAM.value)
    return torch.searchsorted(along, point, right=True)


def draw_threshold(mass: Tensor, seed: Tensor, parts: Cut, grid_width: int) -> Tensor:
    """``[B, K]`` items in rising order, the certain ones and a systematic draw; what is behind the draws is no item."""
    items = mass.shape[1]
    start = points(seed, parts.rest, 1, random.THRESHOLD_STREAM.value)
    slot = torch.arange(parts.heaviest.shape[1], device=mass.device)
    step = slot - parts.certain[:, None]  # below 0: a certain item
    shared = parts.draws.clamp(min=1)
    whole, part = parts.rest // shared, parts.rest % shared  # start + j rest / draws, without overflow
    point = step * whole[:, None] + (start + step * part[:, None]) // shared[:, None]
    along = torch.where(mass >= parts.tau[:, None], 0, mass)
    if grid_width:
        order = serpentine(items, grid_width, mass.device)
        along = along[:, order]
    found = torch.searchsorted(along.cumsum(1), point, right=True).clamp(max=items - 1)
    if grid_width:
        found = order[found]
    drawn = torch.where(step < 0, parts.heaviest, found)
    return torch.where(step < parts.draws[:, None], drawn, items).sort(dim=1).values

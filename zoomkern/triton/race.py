"""The largest keys of a row: each chunk keeps its own best, and a stable sort ranks what is left."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.triton import exact, random
from zoomkern.triton.statistics import chunk_of, load_scores


@triton.jit
def _ordered(key):
    """int64 that compares as the float64 ``key`` does; both zeros are one."""
    bits = tl.where(key == 0.0, 0.0, key).to(tl.int64, bitcast=True)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


@triton.jit
def _bound(rank, kept):
    """A bound that ``kept`` of a chunk reach, found bit by bit; with ties at the last of them more may reach it."""
    one = tl.full((), 1, tl.int64)
    bound = one << 63
    reach = kept + 1
    place = 63
    while (place >= 0) & (reach != kept):
        higher = bound ^ (one << place)  # the sign bit is set where the bound is lowest
        count = tl.sum((rank >= higher).to(tl.int32), 0)
        reach = tl.where(count >= kept, count, reach)
        bound = tl.where(count >= kept, higher, bound)
        place -= 1
    return bound


@triton.jit(do_not_specialize=["chunks", "kept"])
def _keys(
    scores,
    top,
    seed,
    ranks,
    numbers,
    items,
    chunks,
    kept,
    RACE: tl.constexpr,
    SELECT: tl.constexpr,
    ROW_SEEDS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row, first = chunk_of(chunks, CHUNK)
    key, item, _ = load_scores(scores, row, first, items, CHUNK)
    never = key == float("-inf")
    if RACE:
        own, number = random.row_key(seed, row, ROW_SEEDS)
        high = random.words(own, first, number, random.RACE_STREAM, CHUNK)
        low = random.words(own, first, number, random.RACE_STREAM + 1, CHUNK)
        key = (key - tl.load(top + row)) - exact.log_exponential(high, low)
    rank = tl.where(never, tl.full((), 1, tl.int64) << 63, _ordered(key))  # another's key may be -inf too
    if SELECT:
        bound = _bound(rank, kept)
        above, equal = rank > bound, rank == bound
        room = kept - tl.sum(above.to(tl.int32), 0)
        keep = above | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= room))
        to = tl.program_id(0).to(tl.int64) * kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(ranks + to, rank, mask=keep)
        tl.store(numbers + to, item, mask=keep)
    else:
        tl.store(ranks + row * items + item, rank, mask=item < items)


def winners(scores: Tensor, top: Tensor, seed: Tensor, race: bool, draws: int, chunk: int) -> Tensor:
    """``[B, draws]`` items with the largest keys, in order, the lower item first among equals.

    Args:
        scores: ``[B, L]``, with ``L >= draws``.
        top: ``[B]`` float64 maxima of the rows.
        seed: int64, a scalar or ``[B]``.
        race: the key is that of the exponential race; otherwise it is the score.
        draws: how many.
        chunk: items of a program.
    """
    batch, items = scores.shape
    chunks = triton.cdiv(items, chunk)
    select = 4 * draws <= min(chunk, items)  # beyond that a sort of everybody costs about the same
    ranks = scores.new_empty((batch, chunks * draws if select else items), dtype=torch.int64)
    numbers = torch.empty_like(ranks) if select else None
    _keys[(batch * chunks,)](
        scores,
        top,
        seed.contiguous(),
        ranks,
        numbers,
        items,
        chunks,
        draws,
        RACE=race,
        SELECT=select,
        ROW_SEEDS=seed.ndim == 1,
        CHUNK=chunk,
        num_warps=8,
        enable_fp_fusion=False,
    )
    best = ranks.sort(dim=1, descending=True, stable=True).indices[:, :draws]
    return best if numbers is None else numbers.gather(1, best)

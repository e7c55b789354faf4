"""What a pass over a row finds: its maximum, its sum of exponentials, how many items it can draw, and its faults."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.triton import exact, faults

#: Partial results that a program of :func:`_settle` adds at a time.
PARTS = 1024


class Scan(NamedTuple):
    """What ``[B, chunks]`` chunks of rows hold."""

    top: Tensor  #: the maximum
    total: Tensor  #: sum of exp(score - top)
    drawable: Tensor  #: how many items may be drawn
    wrong: Tensor  #: the first item that is NaN or +inf, L if there is none


class Rows(NamedTuple):
    """Statistics ``[B]`` of rows: the maximum, the log of ``sum exp(score - top)``, and how many items to draw."""

    top: Tensor
    log_sum: Tensor
    draws: Tensor

    def lse(self) -> Tensor:
        """``[B, 2]`` both parts of the log of the sum of exponentials; 0 for a row from which nothing can be drawn."""
        return torch.stack((self.top, self.log_sum), 1)


@triton.jit
def chunk_of(chunks, CHUNK: tl.constexpr):
    """Row and first item, int64, of the chunk that this program handles."""
    program = tl.program_id(0).to(tl.int64)
    return program // chunks, program % chunks * CHUNK


@triton.jit
def load_scores(scores, row, first, items, CHUNK: tl.constexpr):
    """``[CHUNK]`` float64 scores from item ``first`` on: -inf behind the row and in place of NaN and +inf."""
    item = first + tl.arange(0, CHUNK)
    given = tl.load(scores + row * items + item, mask=item < items, other=-float("inf")).to(tl.float64)
    return tl.where(given < float("inf"), given, -float("inf")), item, given


@triton.jit(do_not_specialize=["chunks"])
def _scan(scores, top, total, drawable, wrong, items, chunks, CHUNK: tl.constexpr):
    row, first = chunk_of(chunks, CHUNK)
    score, item, given = load_scores(scores, row, first, items, CHUNK)
    most = tl.max(score, 0)
    at = tl.program_id(0)
    tl.store(top + at, most)
    tl.store(total + at, tl.sum(exact.exp(score - tl.where(most > -float("inf"), most, 0.0)), 0))
    tl.store(drawable + at, tl.sum((score > -float("inf")).to(tl.int64), 0))
    tl.store(wrong + at, tl.min(tl.where(given < float("inf"), items, item), 0))


@triton.jit(do_not_specialize=["chunks", "num_samples"])
def _settle(
    scores,
    top,
    total,
    drawable,
    wrong,
    counts,
    fault,
    row_top,
    row_log_sum,
    row_draws,
    items,
    chunks,
    num_samples,
    REPEATS: tl.constexpr,
    PAD: tl.constexpr,
    COUNTED: tl.constexpr,
    PARTS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    most = tl.full((PARTS,), -float("inf"), tl.float64)
    found = tl.zeros((PARTS,), tl.int64)
    first_wrong = tl.zeros((PARTS,), tl.int64) + items
    for start in range(0, chunks, PARTS):
        part = start + tl.arange(0, PARTS)
        at, inside = row * chunks + part, part < chunks
        most = tl.maximum(most, tl.load(top + at, mask=inside, other=-float("inf")))
        found += tl.load(drawable + at, mask=inside, other=0)
        first_wrong = tl.minimum(first_wrong, tl.load(wrong + at, mask=inside, other=items))
    best, able, item = tl.max(most, 0), tl.sum(found, 0), tl.min(first_wrong, 0)
    best = tl.where(able > 0, best, 0.0)
    sums = tl.zeros((PARTS,), tl.float64)
    for start in range(0, chunks, PARTS):
        part = start + tl.arange(0, PARTS)
        at, inside = row * chunks + part, part < chunks
        gap = tl.load(top + at, mask=inside, other=-float("inf")) - best
        sums += tl.load(total + at, mask=inside, other=0.0) * exact.exp(gap)
    whole = tl.sum(sums, 0)

    wanted = able * 0 + num_samples
    asked = wanted
    if COUNTED:
        asked = tl.load(counts + row)
        wanted = tl.where((asked < 0) | (asked > wanted), 0, asked)
    needed = wanted
    fallback = able
    if REPEATS:
        needed = tl.minimum(wanted, 1)
        fallback = able * 0
    if not PAD:
        fallback = able * 0
    draws = tl.where(able >= needed, wanted, fallback)
    if item < items:
        draws = able * 0
        given = tl.load(scores + row * items + item).to(tl.float64)
        faults.note(fault, tl.where(given == given, faults.INFINITE, faults.NAN), row, item, able)
    elif asked != wanted:
        faults.note(fault, faults.COUNT, row, asked, able)
    elif not PAD and able < needed:
        faults.note(fault, faults.SHORT, row, needed, able)
    tl.store(row_top + row, best)
    tl.store(row_log_sum + row, tl.where(able > 0, exact.log(tl.where(able > 0, whole, 1.0)), 0.0))
    tl.store(row_draws + row, draws)


def scan(scores: Tensor, chunk: int) -> Scan:
    """Statistics of the chunks of ``scores [B, L]``."""
    batch, items = scores.shape
    chunks = triton.cdiv(items, chunk)
    kinds = (torch.float64, torch.float64, torch.int64, torch.int64)
    parts = Scan(*(scores.new_empty((batch, chunks), dtype=kind) for kind in kinds))
    _scan[(batch * chunks,)](scores, *parts, items, chunks, CHUNK=chunk, enable_fp_fusion=False)
    return parts


def measure(scores: Tensor, counts: Tensor | None, num_samples: int, repeats: bool, pad: bool, chunk: int) -> Rows:
    """Statistics of the rows of ``scores [B, L]``; notes the faults of logits and of what is wanted from them."""
    batch, items = scores.shape
    parts = scan(scores, chunk)
    rows = Rows(*(scores.new_empty(batch, dtype=kind) for kind in (torch.float64, torch.float64, torch.int64)))
    fault = faults.notes(scores.device)
    limits = None if counts is None else counts.contiguous()
    chunks = parts.top.shape[1]
    _settle[(batch,)](
        scores,
        *parts,
        limits,
        fault,
        *rows,
        items,
        chunks,
        num_samples,
        REPEATS=repeats,
        PAD=pad,
        COUNTED=counts is not None,
        PARTS=min(PARTS, triton.next_power_of_2(chunks)),
        enable_fp_fusion=False,
    )
    return rows

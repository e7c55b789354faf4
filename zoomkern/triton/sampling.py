"""Ops sample, draw_weights and sample_backward, batched over rows and without a host synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad as pad_to

from zoomkern.triton import arguments, exact, faults, masses, statistics, weights
from zoomkern.triton.arguments import DESRAJ, GUMBEL, REPLACEMENT, THRESHOLD, TOPK
from zoomkern.triton.masses import Cut
from zoomkern.triton.race import winners
from zoomkern.triton.statistics import Rows, chunk_of, load_scores

#: Items of a program.
CHUNK = 4096
#: Draws of a program of :func:`_drawn`, and how many it compares them with at a time.
TILE = 64


class Masses(NamedTuple):
    """Integer masses ``[B, L]`` of the rows, and for the threshold sampler their division."""

    mass: Tensor
    parts: Cut | None


def sample(
    logits: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    counts: Tensor | None,
    num_samples: int,
    sampler: int,
    estimator: int,
    pad: bool,
    grid_width: int,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """index, log_prob and weight ``[B, N]`` and lse ``[B, 2]``; as :func:`zoomkern.reference.sampling.sample`.

    What would be an error of values there is noted, and the row draws nothing: see :mod:`zoomkern.triton.faults`.
    """
    arguments.check_scores(logits, mask, seed, counts)
    arguments.check_codes(sampler, estimator)
    arguments.check_draw(logits.shape[0], logits.shape[1], seed, counts, num_samples, grid_width)
    with torch.cuda.device_of(logits):
        scores = _scores(logits, mask)
        chunk = _chunk(scores, chunk)
        rows = statistics.measure(scores, counts, num_samples, sampler == REPLACEMENT, pad, chunk)
        width = _width(scores, num_samples)
        weighed = _masses(scores, rows.top, rows.draws, width, sampler, chunk)
        if weighed is None:
            drawn = winners(scores, rows.top, seed, sampler == GUMBEL, width, chunk)
        elif weighed.parts is None:
            drawn = masses.draw_replacement(weighed.mass, seed, num_samples)
        else:
            drawn = masses.draw_threshold(weighed.mass, seed, weighed.parts, grid_width)
        index = _cut_off(pad_to(drawn, (0, num_samples - drawn.shape[1])), rows.draws)
        log_prob, weight = _weigh(scores, rows, weighed, index, sampler, estimator, chunk)
        faults.check_if_asked(logits.device)
    return index, log_prob, weight, rows.lse()


def draw_weights(
    logits: Tensor, mask: Tensor | None, index: Tensor, sampler: int, estimator: int, chunk: int = CHUNK
) -> tuple[Tensor, Tensor, Tensor]:
    """log_prob and weight ``[B, N]`` of a draw that is given, and lse ``[B, 2]``.

    An index outside the row, of an item that may not be drawn, or behind a -1 is noted; with it and what follows the
    row is padding.
    """
    arguments.check_scores(logits, mask, index)
    arguments.check_codes(sampler, estimator)
    arguments.check_index(logits.shape[0], index)
    with torch.cuda.device_of(logits):
        scores = _scores(logits, mask)
        chunk = _chunk(scores, chunk)
        rows = statistics.measure(scores, None, index.shape[1], sampler == REPLACEMENT, True, chunk)
        drawable = _drawable(scores, index)
        good = drawable.byte().cummin(1).values.bool()
        faults.note_index(index, ~good & (index != -1))
        inside = torch.where(good & (rows.draws > 0)[:, None], index, -1)
        width = _width(scores, index.shape[1])
        weighed = _masses(scores, rows.top, (inside >= 0).sum(1), width, sampler, chunk)
        log_prob, weight = _weigh(scores, rows, weighed, inside, sampler, estimator, chunk)
        faults.check_if_asked(logits.device)
    return log_prob, weight, rows.lse()


def sample_backward(
    grad_log_prob: Tensor, logits: Tensor, mask: Tensor | None, index: Tensor, lse: Tensor, chunk: int = CHUNK
) -> Tensor:
    """``grad logit_i = sum_{j drawn i} g_j - p_i sum_j g_j`` in the type of ``logits [B, L]``."""
    arguments.check_scores(logits, mask, grad_log_prob, index, lse)
    arguments.check_gradient(logits.shape[0], grad_log_prob, index, lse)
    out = torch.empty_like(logits, memory_format=torch.contiguous_format)
    if not logits.numel():
        return out
    with torch.cuda.device_of(logits):
        batch, items = logits.shape
        draws = index.shape[1]
        scores = _scores(logits, mask)
        chunk = _chunk(scores, chunk)
        inside = _drawable(scores, index)
        faults.note_index(index, ~inside & (index != -1))
        place = torch.where(inside, index, -1).contiguous()
        grad = torch.where(inside, grad_log_prob.double(), 0.0).contiguous()
        given = (scores, lse.contiguous(), grad.sum(1))
        chunks, tiles = triton.cdiv(items, chunk), triton.cdiv(draws, TILE)
        _dense[(batch * chunks,)](*given, out, items, chunks, CHUNK=chunk, enable_fp_fusion=False)
        _drawn[(batch * tiles,)](*given, place, grad, out, items, draws, tiles, TILE=TILE, enable_fp_fusion=False)
        faults.check_if_asked(logits.device)
    return out


def _scores(logits: Tensor, mask: Tensor | None) -> Tensor:
    """``[B, L]`` logits row after row, -inf where nothing may be drawn; a row without items gets one such.

    torch applies the mask: a kernel would read its bytes one by one.
    """
    scores = logits if mask is None else torch.where(mask, logits, -torch.inf)
    return scores.contiguous() if scores.shape[1] else scores.new_full((scores.shape[0], 1), -torch.inf)


def _drawable(scores: Tensor, index: Tensor) -> Tensor:
    """Where ``index [B, N]`` names an item that may be drawn."""
    items = scores.shape[1]
    return (index >= 0) & (index < items) & (scores.gather(1, index.clamp(0, items - 1)) > -torch.inf)


def _chunk(scores: Tensor, chunk: int) -> int:
    """Items of a program: no more than a row has, but a power of two and whole groups of random words."""
    return min(chunk, max(triton.next_power_of_2(scores.shape[1]), 16))


def _width(scores: Tensor, num_samples: int) -> int:
    """How many distinct items of a row a draw can hold; at least 1, since torch takes no maximum of none."""
    return max(min(num_samples, scores.shape[1]), 1)


def _cut_off(index: Tensor, draws: Tensor) -> Tensor:
    """-1 behind the ``draws [B]`` of ``index [B, N]``."""
    return torch.where(torch.arange(index.shape[1], device=index.device) < draws[:, None], index, -1)


def _masses(scores: Tensor, top: Tensor, draws: Tensor, width: int, sampler: int, chunk: int) -> Masses | None:
    """Masses, for the samplers that add them; ``draws [B]`` is at most ``width``."""
    if sampler not in (THRESHOLD, REPLACEMENT):
        return None
    mass = masses.fixed_point(scores, top, chunk)
    return Masses(mass, masses.cut(mass, draws, width) if sampler == THRESHOLD else None)


def _weigh(
    scores: Tensor, rows: Rows, weighed: Masses | None, index: Tensor, sampler: int, estimator: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """log_prob and weight ``[B, N]`` of ``index [B, N]``, 0 where it is below 0."""
    kind = torch.float64 if scores.dtype == torch.float64 else torch.float32
    place = index.clamp(min=0)
    score = scores.gather(1, place).double()
    drawn = (index >= 0) & (score > -torch.inf)
    value = ((score - rows.top[:, None]) - rows.log_sum[:, None]).clamp(min=torch.finfo(kind).min)
    log_prob = torch.where(drawn, value, 0.0)
    prob = torch.where(drawn, value.exp(), 0.0)
    draws = drawn.sum(1)
    if weighed is None and sampler == TOPK:
        weight = prob / prob.sum(1, keepdim=True)
    elif weighed is None:
        rest = _rest(scores, rows, index, chunk)
        rule = (prob, rest, draws)
        weight = weights.desraj(*rule) if estimator == DESRAJ else weights.murthy(*rule, kind)
    elif weighed.parts is None:  # 1 / n, but for the rounding of the masses by which the items were drawn
        share = weighed.mass.sum(1).double() / draws
        weight = prob * (share[:, None] / weighed.mass.gather(1, place).double())
    else:
        weight = prob / weighed.parts.inclusion(weighed.mass.gather(1, place))
    return log_prob.to(kind), torch.where(drawn, weight, 0.0).to(kind)


def _rest(scores: Tensor, rows: Rows, index: Tensor, chunk: int) -> Tensor:
    """``[B]`` share of the items that were not drawn, added up: ``1 - sum prob`` would cancel where little is left."""
    drawn = torch.where(index < 0, index[:, :1], index).clamp(min=0)  # behind the draws stands the first of them again
    parts = statistics.scan(scores.scatter(1, drawn, -torch.inf), chunk)
    shares = parts.total * (parts.top - rows.top[:, None]).exp()
    return shares.sum(1) * (-rows.log_sum).exp()


@triton.jit
def _narrow(value, out):
    """float64 to the type of ``out``, by way of float32, since not every 16-bit type has a way of its own."""
    if out.dtype.element_ty == tl.float64:
        return value
    return value.to(tl.float32).to(out.dtype.element_ty)


@triton.jit
def _share(score, lse, row):
    """The probability; the maximum goes first, beside which the log of the sum may be nothing."""
    return exact.exp((score - tl.load(lse + 2 * row)) - tl.load(lse + 2 * row + 1))


@triton.jit(do_not_specialize=["chunks"])
def _dense(scores, lse, total, out, items, chunks, CHUNK: tl.constexpr):
    row, first = chunk_of(chunks, CHUNK)
    score, item, _ = load_scores(scores, row, first, items, CHUNK)
    grad = -_share(score, lse, row) * tl.load(total + row)
    tl.store(out + row * items + item, _narrow(grad, out), mask=item < items)


@triton.jit(do_not_specialize=["draws", "tiles"])
def _drawn(scores, lse, total, index, grad, out, items, draws, tiles, TILE: tl.constexpr):
    """The gradient of the drawn items, each the sum over all of its draws, in their order."""
    program = tl.program_id(0).to(tl.int64)
    row, j = program // tiles, program % tiles * TILE + tl.arange(0, TILE)
    item = tl.load(index + row * draws + j, mask=j < draws, other=-1)
    added = tl.zeros((TILE,), tl.float64)
    for start in range(0, draws, TILE):
        k = start + tl.arange(0, TILE)
        other = tl.load(index + row * draws + k, mask=k < draws, other=-1)
        part = tl.load(grad + row * draws + k, mask=k < draws, other=0.0)
        added += tl.sum(tl.where(item[:, None] == other[None, :], part[None, :], 0.0), 1)
    valid = item >= 0
    score = tl.load(scores + row * items + item, mask=valid, other=-float("inf")).to(tl.float64)
    both = added - _share(score, lse, row) * tl.load(total + row)
    tl.store(out + row * items + item, _narrow(both, out), mask=valid)

"""Draw items from a softmax: the four samplers, row by row, and the weights of their draws."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern.reference import exact, random, weights
from zoomkern.reference.masses import cut, fixed_point, inclusion, serpentine

SAMPLERS = ("gumbel", "threshold", "replacement", "topk")
#: The weight rules of each sampler; the first is the default.
ESTIMATORS = {
    "gumbel": ("murthy", "desraj"),
    "threshold": ("inclusion",),
    "replacement": ("mean",),
    "topk": ("renormalised",),
}


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw ``num_samples`` items of each row, or ``counts[b]`` of them.

    Args:
        logits: ``[B, L]``, any floating type.
        mask: ``[B, L]`` bool, True where an item may be drawn.
        seed: int64, a scalar or ``[B]``.
        counts: ``[B]`` int64 at most ``num_samples``; the draws beyond are padded.
        num_samples: width ``N`` of the result.
        sampler: one of :data:`SAMPLERS`.
        estimator: one of :data:`ESTIMATORS` of the sampler.
        pad: with fewer drawable items than draws, pad instead of raising.
        grid_width: columns of the grid that the items form, 0 for a list.

    Returns:
        index ``[B, N]`` int64, log_prob ``[B, N]``, weight ``[B, N]``; padded draws are -1, 0 and 0.
    """
    scores = _scores(logits, mask)
    index = torch.full((logits.shape[0], num_samples), -1, dtype=torch.int64, device=logits.device)
    for b in range(logits.shape[0]):
        draws = num_samples if counts is None else int(counts[b])
        drawable = int((scores[b] > -torch.inf).sum())
        needed = min(draws, 1) if sampler == "replacement" else draws
        if drawable < needed:
            if not pad:
                raise ValueError(
                    f"logits must have at least {needed} items that may be drawn in every row; row {b} has {drawable}. "
                    "Draw fewer, widen the mask, or pass on_short='pad'."
                )
            draws = 0 if sampler == "replacement" else drawable
        if draws:
            key = (seed[b], 0) if seed.ndim else (seed, b)
            index[b, :draws] = _draw(scores[b], *key, draws, sampler, grid_width)
    log_prob, weight = draw_weights(logits, mask, index, sampler, estimator)
    return index, log_prob, weight


def draw_weights(
    logits: Tensor, mask: Tensor | None, index: Tensor, sampler: str, estimator: str
) -> tuple[Tensor, Tensor]:
    """log_prob (differentiable) and weight of a draw that is given: ``[B, N]`` each, for ``index [B, N]``."""
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    drawn = index >= 0
    place = index.clamp(min=0)
    scores = _scores(logits, mask)
    if scores.shape[-1]:
        top = scores.detach().amax(-1, keepdim=True)  # a common offset drops out before it costs digits
        below = (scores - top).clamp(min=torch.finfo(scores.dtype).min)  # what may be drawn stays finite
        scores = torch.where(scores > -torch.inf, below, -torch.inf)
        scores = torch.where(top > -torch.inf, scores, 0.0)  # a row of -inf has no derivative
    normaliser = scores.logsumexp(-1, keepdim=True)
    gathered = scores.gather(-1, place) if scores.shape[-1] else scores.new_zeros(index.shape)
    log_prob = torch.where(drawn, (gathered - normaliser).clamp(min=torch.finfo(kind).min), 0.0)
    prob = log_prob.detach().exp()
    weight = torch.zeros_like(prob)
    for b in range(logits.shape[0]):
        if n := int(drawn[b].sum()):
            weight[b, :n] = _weights(scores[b].detach(), prob[b, :n], index[b, :n], sampler, estimator, kind)
    return log_prob.to(kind), weight.to(kind)


def _scores(logits: Tensor, mask: Tensor | None) -> Tensor:
    """float64 logits, -inf where an item may not be drawn."""
    scores = logits.to(torch.float64)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    wrong = torch.isnan(scores) | (scores == torch.inf)
    if bool(wrong.any()):
        row, item = (int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"logits must be finite, or -inf where nothing may be drawn; got {float(scores[row, item])} in row {row}, "
            f"item {item}. Look for an overflow in the network that made them, or mask such items."
        )
    return scores


def _draw(scores: Tensor, seed: Tensor, row: int, draws: int, sampler: str, grid_width: int) -> Tensor:
    """``[draws]`` int64 items of one row of scores."""
    items = scores.shape[0]

    def bits(stream: int, count: int) -> tuple[Tensor, Tensor]:
        high, low = (random.words(seed, count, row, s, scores.device) for s in (stream, stream + 1))
        return high, low

    if sampler == "gumbel":
        keys = (scores - scores.max()) - exact.log_exponential(*bits(random.RACE_STREAM, items))
        order = keys.sort(descending=True, stable=True).indices
        last = (scores[order] == -torch.inf).sort(stable=True).indices  # a key of -inf need not be theirs
        return order[last][:draws]
    if sampler == "topk":
        return scores.sort(descending=True, stable=True).indices[:draws]
    mass = fixed_point(scores)
    if sampler == "replacement":
        point = random.multiply_high(*bits(random.REPLACEMENT_STREAM, draws), mass.sum())
        return torch.searchsorted(mass.cumsum(0), point, right=True)
    parts = cut(mass, draws)
    certain = mass >= parts.tau
    drawn = [certain.nonzero().flatten()]
    if parts.draws:
        start = random.multiply_high(*bits(random.THRESHOLD_STREAM, 1), mass.new_tensor(parts.rest))
        step = torch.arange(parts.draws, device=mass.device)
        whole, part = divmod(parts.rest, parts.draws)  # start + j rest / draws, without overflow
        point = step * whole + (start + step * part) // parts.draws
        order = serpentine(items, grid_width, mass.device)
        along = torch.where(certain, 0, mass)[order].cumsum(0)
        drawn.append(order[torch.searchsorted(along, point, right=True)])
    return torch.cat(drawn).sort().values


def _weights(scores: Tensor, prob: Tensor, index: Tensor, sampler: str, estimator: str, kind: torch.dtype) -> Tensor:
    """``[n]`` float64 weights of one row's draw."""
    if sampler == "replacement":  # 1 / n, but for the rounding of the masses by which the items were drawn
        mass = fixed_point(scores)
        return prob * (mass.sum().double() / prob.shape[0] / mass[index].double())
    if sampler == "topk":
        return prob / prob.sum()
    if sampler == "threshold":
        mass = fixed_point(scores)
        return prob / inclusion(mass[index], cut(mass, index.shape[0]))
    others = scores.index_fill(0, index, -torch.inf)
    rest = (others - scores.logsumexp(0)).exp().sum()
    return weights.desraj(prob, rest) if estimator == "desraj" else weights.murthy(prob, rest, kind)

"""The oracle: every draw a sampler can make from a few items, with its exact probability.

Expectations over draws become finite sums, so an estimator can be tested for bias to rounding error instead of by
simulation. The weights come from the code that is under test, never from a formula of this module. To test an
estimator of your own, build :class:`Draws` from :func:`enumerate_draws` and your own weights.

Source: Plackett, JRSS-C 1975, and Luce 1959 (ordered draws without replacement); Madow, Ann. Math. Stat. 1949
(systematic draws).

Example:
    >>> logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    >>> draws = enumerate_samples(logits, 2, sampler="gumbel", estimator="murthy")
    >>> torch.allclose(expected_weights(draws, 3), logits.softmax(0), rtol=0, atol=1e-12)
    True
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, combinations_with_replacement, pairwise, permutations, product
from typing import NamedTuple

import torch
from torch import Tensor

import zoomkern
from zoomkern.reference.masses import cut, fixed_point, serpentine
from zoomkern.typing import Sample

#: More draws than this are refused: 8 items in any order are 40,320, and 8 of 8 items with replacement 6,435.
MOST_DRAWS = 1_000_000


class Draws(NamedTuple):
    """All that can be drawn, one draw per row.

    Args:
        sample: ``[K, N]`` each; log_prob may carry a graph towards the logits.
        probability: ``[K]`` float64, sums to one.
    """

    sample: Sample
    probability: Tensor


def enumerate_draws(
    logits: Tensor, num_samples: int, sampler: str = "gumbel", *, grid_width: int = 0, ordered: bool = True
) -> tuple[Tensor, Tensor]:
    """Every draw of a sampler, and how likely it is.

    ``gumbel``: all ordered draws, ``prod_j p_j / (mass not drawn before j)``. ``threshold``: the intervals of its
    random start on which the systematic draw stays the same, as integers over the sampler's own masses.
    ``replacement``: all sequences. ``topk``: the one draw.

    Args:
        logits: ``[L]`` float64; -inf is never drawn.
        num_samples: ``N``, at most the drawable items except for ``replacement``.
        sampler: as for :func:`zoomkern.sample`.
        grid_width: columns of the grid that the items form, 0 for a list; it sets the walk of ``threshold``.
        ordered: False makes one draw, sorted, of all sequences of ``replacement`` that differ in order alone.

    Returns:
        index ``[K, N]`` int64 and probability ``[K]`` float64.

    Raises:
        ValueError: an unknown sampler, too few items, or more than :data:`MOST_DRAWS` draws.
    """
    scores = logits.detach().to(torch.float64)
    if scores.ndim != 1:
        raise ValueError(f"logits must be [L], one row; got {list(scores.shape)}.")
    items = (scores > -torch.inf).nonzero().flatten().tolist()
    if not items or (len(items) < num_samples and sampler != "replacement"):
        raise ValueError(f"num_samples must be at most {len(items)}, the drawable items; got {num_samples}.")
    if sampler == "topk":
        best = scores.sort(descending=True, stable=True).indices[:num_samples]
        return best[None], scores.new_ones(1)
    if sampler == "threshold":
        return _systematic(scores, num_samples, grid_width)
    if sampler not in ("gumbel", "replacement"):
        raise ValueError(f"sampler must be one of gumbel, threshold, replacement, topk; got {sampler!r}.")
    if sampler == "replacement":
        return _sequences(scores, items, num_samples) if ordered else _multisets(scores, items, num_samples)
    count = _enumerable(math.perm(len(items), num_samples))
    index = torch.tensor(list(permutations(items, num_samples)), dtype=torch.int64).reshape(count, num_samples)
    left = scores.expand(count, -1).clone()  # of what is not drawn yet
    log_probability = scores.new_zeros(count)
    for drawn in index.unbind(1):
        log_probability += scores[drawn] - left.logsumexp(1)
        left.scatter_(1, drawn[:, None], -torch.inf)
    return index, log_probability.exp()


def _enumerable(count: int) -> int:
    if count > MOST_DRAWS:
        raise ValueError(f"num_samples must leave at most {MOST_DRAWS} draws to enumerate; got {count}.")
    return count


def _sequences(scores: Tensor, items: list[int], num_samples: int) -> tuple[Tensor, Tensor]:
    """Draws with replacement, each in its order."""
    count = _enumerable(len(items) ** num_samples)
    index = torch.tensor(list(product(items, repeat=num_samples)), dtype=torch.int64).reshape(count, num_samples)
    mass = fixed_point(scores)
    return index, (mass.double() / mass.sum().double())[index].prod(1)


def _multisets(scores: Tensor, items: list[int], num_samples: int) -> tuple[Tensor, Tensor]:
    """Draws with replacement, sorted, each with the probability of all its orders."""
    count = _enumerable(math.comb(len(items) + num_samples - 1, num_samples))
    draws = list(combinations_with_replacement(items, num_samples))
    orders = [math.factorial(num_samples) // math.prod(map(math.factorial, Counter(d).values())) for d in draws]
    index = torch.tensor(draws, dtype=torch.int64).reshape(count, num_samples)
    mass = fixed_point(scores)
    return index, scores.new_tensor(orders) * (mass.double() / mass.sum().double())[index].prod(1)


def _systematic(scores: Tensor, num_samples: int, grid_width: int) -> tuple[Tensor, Tensor]:
    """Draws of the threshold sampler.

    With ``n`` items to draw from a mass of ``R``, item ``i`` of the walk is hit by point ``j`` while
    ``start + j R`` lies in ``[n A_{i-1}, n A_i)``, ``A`` being the running mass: every breakpoint is an integer.
    """
    mass = fixed_point(scores)
    parts = cut(mass, num_samples)
    certain = (mass >= parts.tau).nonzero().flatten().tolist()
    chance: dict[tuple[int, ...], Fraction] = {}
    if parts.draws == 0:
        chance[tuple(certain)] = Fraction(1)
    else:
        order = serpentine(scores.shape[0], grid_width, scores.device).tolist()
        walk = [item for item in order if item not in certain]
        ends = list(accumulate(int(mass[item]) for item in walk))
        n, rest = parts.draws, parts.rest
        breaks = {n * end - j * rest for end in ends for j in range(n)}
        edges = sorted({0, rest} | {b for b in breaks if 0 < b < rest})
        for start, stop in pairwise(edges):
            hit = [walk[bisect_right(ends, (start + j * rest) // n)] for j in range(n)]
            drawn = tuple(sorted(certain + hit))
            chance[drawn] = chance.get(drawn, Fraction(0)) + Fraction(stop - start, rest)
    index = torch.tensor(list(chance), dtype=torch.int64)
    return index, torch.tensor([float(p) for p in chance.values()], dtype=torch.float64)


def enumerate_samples(
    logits: Tensor,
    num_samples: int,
    *,
    sampler: str = "gumbel",
    estimator: str | None = None,
    grid_width: int = 0,
    backend: str | None = None,
) -> Draws:
    """:func:`enumerate_draws`, weighed by :func:`zoomkern.draw_weights`.

    Args:
        logits: ``[L]`` float64.
        num_samples: ``N``.
        sampler: as for :func:`zoomkern.sample`.
        estimator: as for :func:`zoomkern.sample`.
        grid_width: as for :func:`enumerate_draws`.
        backend: whose weights.

    Returns:
        ``Draws`` of ``[K, N]``.

    Gradient:
        ``sample.log_prob`` is differentiable towards ``logits``.
    """
    index, probability = enumerate_draws(logits, num_samples, sampler, grid_width=grid_width, ordered=False)
    rows = logits.expand(index.shape[0], -1)
    sample = zoomkern.draw_weights(rows, index, sampler=sampler, estimator=estimator, backend=backend)
    return Draws(sample, probability)


def merge_draws(draws: Draws) -> tuple[Draws, Tensor]:
    """Every draw with its repeats merged by :func:`zoomkern.merge_repeats`.

    Args:
        draws: ``[K, N]``, with replacement.

    Returns:
        ``Draws`` of ``[K, N]`` and multiplicities ``[K, N]`` int64.
    """
    sample, counts = zoomkern.merge_repeats(draws.sample)
    return Draws(sample, draws.probability), counts


def enumerate_inside(
    outer: Draws,
    logits: Tensor,
    counts: Tensor | int,
    *,
    sampler: str = "gumbel",
    estimator: str | None = None,
    backend: str | None = None,
) -> Draws:
    """Every draw of one more stage: a draw inside each drawn parent, put together by :func:`zoomkern.compose`.

    Args:
        outer: ``[K, M]``, the draws of parents; an index is a row of ``logits``.
        logits: ``[T, L]`` float64, the children of each parent.
        counts: draws inside each parent, an int or ``[K, M]`` int64.
        sampler: of this stage.
        estimator: of this stage.
        backend: whose weights.

    Returns:
        ``Draws`` of ``[K', M * n]``, ``n`` being the largest count. Child ``c`` of parent ``t`` has index ``t L + c``,
        so that the result can be the outer draw of a further stage.

    Gradient:
        ``sample.log_prob`` is differentiable towards ``logits`` and whatever ``outer.sample.log_prob`` depends on.

    Raises:
        ValueError: more than :data:`MOST_DRAWS` draws.
    """
    parents = outer.sample.index
    wanted = torch.where(parents < 0, 0, torch.as_tensor(counts).expand(parents.shape))
    width = max(int(wanted.max()), 1)
    # The pool holds every draw inside every parent once; its first row is padding.
    pool, owner, chance = [torch.full((1, width), -1)], [torch.zeros(1, dtype=torch.int64)], [torch.ones(1).double()]
    places: dict[tuple[int, int], range] = {}
    size = 1
    for parent, count in {*zip(parents.flatten().tolist(), wanted.flatten().tolist(), strict=True)}:
        if count == 0:
            places[parent, count] = range(1)
            continue
        index, probability = enumerate_draws(logits[parent], count, sampler, ordered=False)
        pool.append(torch.nn.functional.pad(index, (0, width - count), value=-1))
        owner.append(torch.full((index.shape[0],), parent))
        chance.append(probability)
        places[parent, count] = range(size, size + index.shape[0])
        size += index.shape[0]
    picked: list[list[int]] = []
    origin: list[int] = []
    for k, row in enumerate(zip(parents.tolist(), wanted.tolist(), strict=True)):
        inside = [places[pair] for pair in zip(*row, strict=True)]
        if len(picked) + math.prod(map(len, inside)) > MOST_DRAWS:
            raise ValueError(f"counts must leave at most {MOST_DRAWS} draws to enumerate; got more.")
        picked.extend(map(list, product(*inside)))
        origin.extend([k] * (len(picked) - len(origin)))
    rows, source = torch.tensor(picked), torch.tensor(origin)  # [K', M] places in the pool, [K']
    tiles, index = torch.cat(owner), torch.cat(pool)
    drawn = zoomkern.draw_weights(logits[tiles], index, sampler=sampler, estimator=estimator, backend=backend)
    above = Sample(*(part[source] for part in outer.sample))
    whole = zoomkern.compose(above, Sample(*(part[rows] for part in drawn)))
    child = whole.index + (above.index * logits.shape[1]).repeat_interleave(width, 1)
    sample = whole._replace(index=torch.where(whole.index < 0, -1, child))
    return Draws(sample, outer.probability[source] * torch.cat(chance)[rows].prod(1))


def expected_weights(draws: Draws, items: int) -> Tensor:
    """``E[w_i]`` of every item, 0 counting where it is not drawn.

    Args:
        draws: ``[K, N]``.
        items: ``L``.

    Returns:
        ``[L]`` float64; the attention, if the weights are unbiased.
    """
    return draws.probability @ _dense(draws, items)


def weight_variance(draws: Draws, attention: Tensor) -> Tensor:
    """``E sum_i (w_i - p_i)^2``, what a weight rule is judged by.

    Args:
        draws: ``[K, N]``.
        attention: ``[L]``, the ``p`` that the weights should have as their mean.

    Returns:
        Scalar, float64.
    """
    attention = attention.detach().double()
    return draws.probability @ (_dense(draws, attention.shape[0]) - attention).square().sum(1)


def _dense(draws: Draws, items: int) -> Tensor:
    """``[K, L]`` weight of every item in every draw."""
    weight = draws.sample.weight.detach().double()
    dense = weight.new_zeros(weight.shape[0], items)
    return dense.scatter_add(1, draws.sample.index.clamp(min=0), weight)


def expected_gradients(
    draws: Draws,
    features: Tensor,
    loss: Callable[[Tensor], Tensor],
    inputs: Sequence[Tensor],
    *,
    baseline: Tensor | None = None,
    gradient: str = "exact",
    backend: str | None = None,
) -> tuple[Tensor, ...]:
    """``E[d loss(F) / d input]``, ``F`` being :func:`zoomkern.expectation` of the drawn features.

    Args:
        draws: ``[K, N]``, from ``inputs`` that require a gradient.
        features: ``[L, D]``, one per item.
        loss: takes pooled features ``[K, D]``, returns ``[K]``.
        inputs: leaves to differentiate towards: ``features``, the logits.
        baseline: ``[D]``, as for :func:`zoomkern.expectation`.
        gradient: as for :func:`zoomkern.expectation`.
        backend: whose expectation.

    Returns:
        A tensor for each of ``inputs``.
    """
    drawn = features[draws.sample.index.clamp(min=0)]
    pooled = zoomkern.expectation(drawn, draws.sample, baseline=baseline, gradient=gradient, backend=backend)
    return torch.autograd.grad((draws.probability * loss(pooled)).sum(), inputs, retain_graph=True)


def exact_gradients(
    attention: Tensor, features: Tensor, loss: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``d loss(sum_i p_i f_i) / d input``: what :func:`expected_gradients` should be.

    Args:
        attention: ``[L]``, differentiable.
        features: ``[L, D]``.
        loss: as for :func:`expected_gradients`.
        inputs: as for :func:`expected_gradients`.

    Returns:
        A tensor for each of ``inputs``.
    """
    return torch.autograd.grad(loss((attention @ features)[None]).sum(), inputs, retain_graph=True)

"""Pool the features of a draw, and put draws together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.functional.draws import choose
from zoomkern.ops import expectation as expectation_op
from zoomkern.reference.expectation import GRADIENTS
from zoomkern.reference.sampling import SAMPLERS
from zoomkern.typing import Sample, SampledPatches


def expectation(
    features: Tensor,
    sample: Sample | SampledPatches,
    *,
    baseline: Tensor | None = None,
    gradient: str = "exact",
    backend: str | None = None,
) -> Tensor:
    """``sum_i w_i exp(log_prob_i - stop(log_prob_i)) (f_i - b) + b sum_i w_i``: the attention-weighted mean feature.

    Args:
        features: ``[B, N, ...]`` of the drawn patches, floating point.
        sample: the draw.
        baseline: broadcastable to ``[B, ...]``, a constant that does not depend on this draw (a running mean, say). It
            leaves the value alone and can cut the gradient's error many times over.
        gradient: ``exact``; or ``ats`` and ``zoomin``, the published gradients, biased, for reproduction. Those two
            hold for ordered draws (``sampler="gumbel", estimator="desraj"``) and ignore the baseline.
        backend: as for :func:`sample`.

    Returns:
        ``[B, ...]`` in the type of ``features``.

    Gradient:
        Unbiased towards features and logits for every loss that is linear in the result. Behind a nonlinear head a
        plug-in bias of the order of the variance remains.

    Memory:
        ``O(B N D)`` for the gradient of the features.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: features that are not floating point.

    Source:
        The derivation is in ``docs/mathematics.md``; the published gradients are of Katharopoulos & Fleuret, ICML 2019.
    """
    if isinstance(features, (Sample, SampledPatches)):
        got = type(features).__name__
        raise TypeError(f"features must be a tensor [B, N, ...]; got {got}. Features come first, then the draw.")
    checks.tensor("features", features, "a tensor [B, N, ...]")
    checks.dtype("features", features.dtype, checks.FLOATS)
    checks.sample("sample", sample)
    log_prob, weight = sample.log_prob, sample.weight
    if features.ndim < 2 or features.shape[:2] != log_prob.shape:
        raise ValueError(f"features must be [B, N, ...] = {list(log_prob.shape)} + [...]; got {list(features.shape)}.")
    checks.same_device("features", features, log_prob.device, "sample")
    checks.choice("gradient", gradient, GRADIENTS)
    rest = features.shape[2:]
    size = math.prod(rest)
    if baseline is not None:
        checks.tensor("baseline", baseline, "a tensor that broadcasts to [B, ...]")
        checks.same_device("baseline", baseline, features.device, "features")
        target = (features.shape[0], *rest)
        try:
            baseline = baseline.detach().to(features.dtype).expand(target).reshape(features.shape[0], size)
        except RuntimeError:
            given = list(baseline.shape)
            raise ValueError(f"baseline must broadcast to [B, ...] = {list(target)}; got {given}.") from None
    flat = features.reshape(*features.shape[:2], size)
    chosen = choose(backend, features.device)
    pooled = expectation_op.expectation(flat, log_prob, weight.detach(), baseline, gradient, chosen)
    return pooled.reshape(features.shape[0], *rest)


def compose(outer: Sample | SampledPatches, inner: Sample | SampledPatches) -> Sample:
    """The draw of a two-stage choice: weights multiply, log-probabilities add.

    Args:
        outer: ``[B, T]``, the draw of parents.
        inner: ``[B, T, n]``, or ``[B * T, n]`` with the parents in order: a draw inside each parent.

    Returns:
        ``Sample`` of ``[B, T * n]``: child ``k`` belongs to parent ``k // n``; index is the child's place inside its
        parent, -1 where the child or its parent is padded. It may be the outer draw of a further stage.

    Raises:
        ValueError: shapes that do not fit.

    Source:
        Kong & Henao, CVPR 2022, eq. (5) and (9); multiplicities enter as outer weights, see :func:`merge_repeats`.
    """
    checks.sample("outer", outer)
    checks.sample("inner", inner, (2, 3))
    checks.same_device("inner", inner.index, outer.index.device, "outer")
    batch, parents = outer.index.shape
    leading = tuple(inner.index.shape[:-1])
    if leading != (batch, parents) and leading != (batch * parents,):
        wanted = f"[{batch}, {parents}, n] or [{batch * parents}, n]"
        raise ValueError(f"inner must be {wanted}, a draw inside each outer item; got {list(inner.index.shape)}.")
    count = inner.index.shape[-1]
    shape = (batch, parents, count)
    index, log_prob, weight = (part.reshape(shape) for part in (inner.index, inner.log_prob, inner.weight))
    padded = (index < 0) | (outer.index < 0)[..., None]
    both = log_prob + outer.log_prob[..., None]
    return Sample(
        torch.where(padded, -1, index).flatten(1),
        torch.where(padded, 0.0, both.clamp(min=torch.finfo(both.dtype).min)).flatten(1),
        torch.where(padded, 0.0, weight * outer.weight[..., None]).flatten(1),
    )


def merge_repeats(sample: Sample) -> tuple[Sample, Tensor]:
    """The distinct items of a draw with replacement, and how often each was drawn.

    Args:
        sample: ``[B, N]``.

    Returns:
        ``Sample`` of ``[B, N]`` with the distinct items in the order of their first draw, their weights summed, then
        padded; and int64 ``[B, N]`` multiplicities, 0 for padding. Shapes are static and nothing synchronises.
    """
    checks.sample("sample", sample)
    same = (sample.index[:, :, None] == sample.index[:, None, :]) & (sample.index >= 0)[:, None, :]  # [B, N, N]
    first = (same.int().argmax(-1) == torch.arange(same.shape[-1], device=same.device)) & (sample.index >= 0)
    order = (~first).to(torch.int8).argsort(dim=-1, stable=True)
    kept = first.gather(1, order)

    def arrange(values: Tensor, padding: float) -> Tensor:
        return torch.where(kept, values.gather(1, order), padding)

    weight = (same * sample.weight[:, None]).sum(-1)  # a matrix product would be rounded under autocast
    merged = Sample(arrange(sample.index, -1), arrange(sample.log_prob, 0.0), arrange(weight, 0.0))
    return merged, arrange(same.sum(-1), 0)


def estimate_total(
    values: Tensor, sample: Sample | SampledPatches, *, sampler: str = "gumbel"
) -> tuple[Tensor, Tensor]:
    """Total of a quantity over all items, from the drawn ones: how many objects in this slide, from a few patches.

    ``total = sum_i w_i v_i / p_i`` is unbiased. The standard error is the spread of the draw's own single-draw
    estimates: of Des Raj for ``gumbel`` (unbiased in the square for its weights, an upper estimate for Murthy's), of
    Hansen and Hurwitz for ``replacement`` (unbiased in the square), of Hartley and Rao for ``threshold`` (approximate).

    Args:
        values: ``[B, N]``, the quantity of each drawn item.
        sample: the draw as :func:`sample` made it, not merged; padded draws do not count, nor do items whose
            probability or weight is 0 in its type: below 1e-38 in float32, 1e-308 in float64, as the logits are.
        sampler: the sampler that made it, ``gumbel``, ``threshold`` or ``replacement``. A draw does not tell: with
            another sampler's draw the error is wrong, and with that of ``topk`` the total too.

    Returns:
        total and standard error, ``[B]`` each, float64. The error is NaN for fewer than two draws that count.

    Raises:
        ValueError: shapes that do not fit, or ``topk``, whose total is biased.

    Source:
        Des Raj, JASA 1956; Hartley & Rao, Ann. Math. Stat. 1962.
    """
    checks.tensor("values", values, "a tensor [B, N]")
    checks.sample("sample", sample)
    checks.shape("values", values, tuple(sample.index.shape), "[B, N]")
    checks.same_device("values", values, sample.index.device, "sample")
    checks.choice("sampler", sampler, SAMPLERS)
    if sampler == "topk":
        raise ValueError("sampler must have unbiased weights; got 'topk'. Draw with 'gumbel' or 'threshold'.")
    p = sample.log_prob.detach().double().exp()
    drawn = (sample.index >= 0) & (p != 0) & (sample.weight != 0)
    zero = torch.zeros((), dtype=torch.float64, device=values.device)
    v = torch.where(drawn, values.double(), zero)
    p = torch.where(drawn, p, 1.0)
    w = torch.where(drawn, sample.weight.double(), zero)
    n = drawn.sum(1, keepdim=True).double()
    total = (w * v / p).sum(1)
    if sampler == "threshold":
        return total, _hartley_rao(v, torch.where(drawn, p / w, 1.0), drawn, n)
    single = v / p
    if sampler == "gumbel":
        before = (p * drawn).cumsum(1) - p * drawn
        single = v.cumsum(1) - v + single * (1 - before).clamp(min=0)
    mean = (single * drawn).sum(1, keepdim=True) / n
    variance = ((single - mean).square() * drawn).sum(1) / (n * (n - 1)).squeeze(1)
    return total, torch.where(n.squeeze(1) > 1, variance, math.nan).sqrt()


def _hartley_rao(v: Tensor, pi: Tensor, drawn: Tensor, n: Tensor) -> Tensor:
    """Approximate standard error ``[B]`` of a systematic draw with inclusion probabilities ``pi [B, N]``."""
    pairs = drawn[:, :, None] & drawn[:, None, :]
    squares = (pi * drawn).sum(1)[:, None, None] / n[..., None]  # sum over all items of pi^2 / n, estimated
    factor = (1 - pi[:, :, None] - pi[:, None, :] + squares).clamp(min=0)
    ratio = v / pi
    spread = (ratio[:, :, None] - ratio[:, None, :]).square()
    variance = (factor * spread * pairs).sum((1, 2)) / (2 * (n.squeeze(1) - 1))
    return torch.where(n.squeeze(1) > 1, variance, math.nan).sqrt()

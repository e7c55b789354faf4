"""Pooling over a draw, and over all there is."""

import pytest
import torch

import zoomkern
from zoomkern import testing
from zoomkern.nn.pooling import (
    GatedAttentionPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    SoftAttentionPooling,
)
from zoomkern.typing import Sample


def gated(size=5):
    return GatedAttentionPooling(size, hidden=4).double()


def scores(pooling, features):
    """``u = w^T (tanh(V f) * sigmoid(U f))``, as the paper writes it."""
    return (torch.tanh(pooling.value(features)) * torch.sigmoid(pooling.gate(features))) @ pooling.score.weight[0]


def whole(pooling, logits, features):
    """The ratio over all items, ``[D]``."""
    mass = logits.softmax(-1) * scores(pooling, features).exp()
    return (mass[:, None] * features).sum(0) / mass.sum()


def test_with_every_item_drawn_the_ratio_and_its_gradients_are_exact():
    torch.manual_seed(0)
    pooling = gated()
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    features = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    sample = zoomkern.sample(logits[None], 6, seed=0)
    pooled = pooling(features[sample.index], sample)[0]
    wanted = whole(pooling, logits, features)
    torch.testing.assert_close(pooled, wanted)
    direction = torch.randn(5, dtype=torch.float64)
    variables = (logits, features, *pooling.parameters())
    given = torch.autograd.grad(pooled @ direction, variables)
    for gradient, exact in zip(given, torch.autograd.grad(wanted @ direction, variables), strict=True):
        torch.testing.assert_close(gradient, exact)


def test_both_sums_are_unbiased():
    """Over all draws: numerator and denominator of the estimate, by the shipped weights."""
    torch.manual_seed(1)
    pooling, logits = gated(), torch.randn(6, dtype=torch.float64)
    features = torch.randn(6, 5, dtype=torch.float64)
    draws = testing.enumerate_samples(logits, 3)
    exponential = scores(pooling, features).exp()[draws.sample.index] * draws.sample.weight
    pooled = pooling(features[draws.sample.index], draws.sample)
    mass = (draws.probability * exponential.sum(1)).sum()
    total = (draws.probability[:, None] * exponential.sum(1, keepdim=True) * pooled).sum(0)
    torch.testing.assert_close(mass, (logits.softmax(0) * scores(pooling, features).exp()).sum())
    torch.testing.assert_close(total / mass, whole(pooling, logits, features))


def test_more_draws_bring_the_estimate_closer():
    torch.manual_seed(2)
    pooling, logits = gated(), torch.randn(200, dtype=torch.float64)
    torch.nn.init.normal_(pooling.score.weight, std=2.0)
    features = torch.randn(200, 5, dtype=torch.float64)
    wanted = whole(pooling, logits, features)
    errors = []
    for number in (5, 80):
        sample = zoomkern.sample(logits.expand(300, -1), number, seed=0)
        errors.append((pooling(features[sample.index], sample).mean(0) - wanted).norm())
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement", "topk"])
def test_shares_sum_to_one_for_every_sampler(sampler):
    sample = zoomkern.sample(torch.randn(3, 40), 6, sampler=sampler, seed=0)
    share = GatedAttentionPooling(5).attention(torch.randn(3, 6, 5), sample)
    torch.testing.assert_close(share.sum(1), torch.ones(3))


def test_padding_takes_no_part_and_a_row_of_padding_is_zero():
    pooling, mask = gated(), torch.ones(2, 4, dtype=torch.bool)
    mask[0, 1:], mask[1] = False, False
    logits = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    sample = zoomkern.sample(logits, 3, mask=mask, on_short="pad", seed=0)
    features = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    pooled = pooling(features, sample)
    torch.testing.assert_close(pooled[0], features[0, 0])
    assert torch.equal(pooled[1], torch.zeros(5, dtype=torch.float64))
    pooled.square().sum().backward()
    assert features.grad[0, 1:].abs().max() == 0
    for gradient in (logits.grad, features.grad, *(p.grad for p in pooling.parameters())):
        assert gradient.isfinite().all()


def test_scores_and_weights_far_apart_stay_finite():
    pooling = gated(2)
    torch.nn.init.constant_(pooling.score.weight, 1e4)
    weight = torch.tensor([[1e-300, 1.0, 0.0]], dtype=torch.float64)
    sample = Sample(torch.tensor([[3, 1, 2]]), torch.zeros(1, 3, dtype=torch.float64, requires_grad=True), weight)
    pooled = pooling(torch.randn(1, 3, 2, dtype=torch.float64), sample)
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert sample.log_prob.grad.isfinite().all()


def test_half_precision_features_keep_their_type():
    sample = zoomkern.sample(torch.randn(2, 9), 4, seed=0)
    pooled = GatedAttentionPooling(5).bfloat16()(torch.randn(2, 4, 5).bfloat16(), sample)
    assert pooled.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 2, 5), (2, 3)])
def test_features_that_do_not_fit_the_draw_are_refused(shape):
    sample = zoomkern.sample(torch.zeros(2, 9), 3)
    with pytest.raises(ValueError, match=r"features must be \[B, N, D\] = \[2, 3, 5\]"):
        GatedAttentionPooling(5)(torch.zeros(shape), sample)


def test_a_draw_is_asked_for():
    with pytest.raises(TypeError, match="sample must be a Sample"):
        GatedAttentionPooling(5)(torch.rand(2, 3, 5), torch.rand(2, 3))


POOLINGS = [MeanPooling(), MaxPooling(), LogSumExpPooling(0.5), SoftAttentionPooling(3)]
poolings = pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: type(pooling).__name__)


@poolings
def test_a_map_is_pooled_as_the_list_of_its_items(pooling):
    features = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pooling(features), pooling(features.flatten(2).transpose(1, 2)))


@poolings
@pytest.mark.parametrize("items", [1, 7])
def test_a_constant_map_gives_its_constant_however_large(pooling, items):
    features = torch.tensor([1.0, -2.0, 300.0]).expand(2, items, 3)
    torch.testing.assert_close(pooling(features), features[:, 0])


@poolings
@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), (2, 3, 0, 4)])
def test_features_without_items_are_refused(pooling, shape):
    with pytest.raises(ValueError, match=r"features must be \[B, L, D\] or \[B, D, h, w\]"):
        pooling(torch.zeros(shape))


def test_the_temperature_leads_from_the_maximum_to_the_mean():
    features = torch.randn(2, 9, 3, dtype=torch.float64)
    torch.testing.assert_close(LogSumExpPooling(1.0)(features), features.exp().mean(1).log())
    # max - t log L <= value <= max, and mean <= value <= mean + range^2 / (8 t) (Hoeffding)
    small, large, spread = 1e-4, 1e4, features.amax(1) - features.amin(1)
    below = features.amax(1) - LogSumExpPooling(small)(features)
    above = LogSumExpPooling(large)(features) - features.mean(1)
    assert (below >= 0).all()
    assert (below <= small * 2.2).all()  # log 9 < 2.2
    rounding = 1e-11  # of the division and its undoing, at a temperature of 1e4
    assert (above >= -rounding).all()
    assert (above <= spread.square() / (8 * large) + rounding).all()


def test_soft_attention_is_the_softmax_of_its_scores():
    pooling, features = SoftAttentionPooling(3, hidden=4), torch.randn(2, 6, 3)
    share = pooling.attention(features)
    torch.testing.assert_close(share, pooling.score(features)[..., 0].softmax(1))
    torch.testing.assert_close(pooling(features), torch.einsum("bl,bld->bd", share, features))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_the_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        LogSumExpPooling(temperature)

"""Every weight rule and gradient against exhaustive enumeration in float64."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern import testing
from zoomkern.reference.sampling import ESTIMATORS

#: Logits from near-uniform to saturated; the last ones hold items whose probability underflows beside one near 1.
ATTENTION = {
    "near-uniform": [0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.3, 0.05],
    "moderate": [1.0, -0.5, 1.8, -1.2, 0.3, -0.4, 0.9, -2.0],
    "peaked": [0.2, 4.0, -1.0, 1.5, -2.5, 0.6, -4.0, 1.1],
    "saturated": [-40.0, 0.0, -18.0, -37.0, -300.0, -60.0, -745.0, -9.0],
}
RULES = [("gumbel", "murthy"), ("gumbel", "desraj"), ("threshold", "inclusion"), ("replacement", "mean")]

attentions = pytest.mark.parametrize("attention", ATTENTION)
rules = pytest.mark.parametrize(("sampler", "estimator"), RULES, ids=lambda value: value)


def logits_of(attention: str, items: int) -> Tensor:
    return torch.tensor(ATTENTION[attention][:items], dtype=torch.float64)


def features_of(items: int, size: int = 3) -> Tensor:
    """Features with a large common part, as pooled activations have."""
    generator = torch.Generator().manual_seed(items)
    return torch.randn(items, size, dtype=torch.float64, generator=generator) + 3


def linear(pooled: Tensor) -> Tensor:
    return pooled @ torch.linspace(-1.0, 2.0, pooled.shape[-1], dtype=torch.float64)


@functools.cache
def drawn(
    attention: str, items: int, num_samples: int, sampler: str, estimator: str, backend: str | None = None
) -> tuple[Tensor, testing.Draws]:
    """Logits that require a gradient, and their draws; cached, for the tests only read them."""
    logits = logits_of(attention, items).requires_grad_()
    return logits, testing.enumerate_samples(logits, num_samples, sampler=sampler, estimator=estimator, backend=backend)


def test_every_rule_of_an_unbiased_sampler_is_tested() -> None:
    assert set(RULES) == {(s, e) for s, estimators in ESTIMATORS.items() if s != "topk" for e in estimators}


def sizes() -> list[tuple[int, int]]:
    return [(5, n) for n in range(1, 6)] + [(1, 1), (2, 2), (8, 1), (8, 2)]


@attentions
@rules
class TestOneStage:
    @pytest.mark.parametrize(("items", "num_samples"), sizes(), ids=lambda value: str(value))
    def test_weights_have_the_attention_as_their_mean(
        self, attention: str, sampler: str, estimator: str, items: int, num_samples: int, backend: str
    ) -> None:
        logits, draws = drawn(attention, items, num_samples, sampler, estimator, backend)
        assert math.isclose(float(draws.probability.sum()), 1.0, abs_tol=1e-14)
        difference = testing.expected_weights(draws, items) - logits.detach().softmax(0)
        assert float(difference.abs().max()) < 1e-12

    @pytest.mark.parametrize("with_baseline", [False, True], ids=["no-baseline", "baseline"])
    @pytest.mark.parametrize(("items", "num_samples"), sizes(), ids=lambda value: str(value))
    def test_gradients_have_the_true_gradient_as_their_mean(
        self,
        attention: str,
        sampler: str,
        estimator: str,
        items: int,
        num_samples: int,
        with_baseline: bool,
        backend: str,
    ) -> None:
        logits, draws = drawn(attention, items, num_samples, sampler, estimator, backend)
        features = features_of(items).requires_grad_()
        baseline = torch.tensor([2.5, -1.0, 3.5], dtype=torch.float64) if with_baseline else None
        inputs = (features, logits)
        true = testing.exact_gradients(logits.softmax(0), features, linear, inputs)
        mean = testing.expected_gradients(draws, features, linear, inputs, baseline=baseline, backend=backend)
        for given, wanted in zip(mean, true, strict=True):
            assert float((given - wanted).abs().max()) < 1e-12


@attentions
@rules
@pytest.mark.parametrize("num_samples", range(3, 9))
def test_eight_items_are_unbiased(attention: str, sampler: str, estimator: str, num_samples: int, native: str) -> None:
    logits, draws = drawn(attention, 8, num_samples, sampler, estimator, native)
    features = features_of(8).requires_grad_()
    inputs = (features, logits)
    p = logits.softmax(0)
    assert float((testing.expected_weights(draws, 8) - p.detach()).abs().max()) < 1e-12
    true = testing.exact_gradients(p, features, linear, inputs)
    for baseline in (None, torch.tensor([2.5, -1.0, 3.5], dtype=torch.float64)):
        mean = testing.expected_gradients(draws, features, linear, inputs, baseline=baseline, backend=native)
        for given, wanted in zip(mean, true, strict=True):
            assert float((given - wanted).abs().max()) < 1e-12


@pytest.mark.parametrize("sampler", ["threshold", "replacement"])
def test_items_whose_mass_is_rounded_up_to_one_are_unbiased(sampler: str, backend: str) -> None:
    """e^-60 of the largest is 4e-11 of the least mass: such items are drawn too often, and weigh as much less."""
    logits = torch.full((400,), -60.0, dtype=torch.float64)
    logits[123] = 0.0
    draws = testing.enumerate_samples(logits, 1, sampler=sampler, backend=backend)
    ratio = testing.expected_weights(draws, 400) / logits.softmax(0)
    assert float((ratio - 1).abs().max()) < 1e-12
    assert float(draws.probability[0]) > 1e5 * float(logits.softmax(0)[0])


@rules
def test_unlikely_items_are_unbiased_relative_to_their_own_probability(
    sampler: str, estimator: str, backend: str
) -> None:
    logits, draws = drawn("peaked", 5, 3, sampler, estimator, backend)
    ratio = testing.expected_weights(draws, 5) / logits.detach().softmax(0)
    assert float((ratio - 1).abs().max()) < 1e-12


@rules
def test_items_that_may_not_be_drawn_have_no_weight(sampler: str, estimator: str, backend: str) -> None:
    logits = logits_of("moderate", 5)
    logits[[1, 3]] = -torch.inf
    draws = testing.enumerate_samples(logits, 2, sampler=sampler, estimator=estimator, backend=backend)
    mean = testing.expected_weights(draws, 5)
    assert float((mean - logits.softmax(0)).abs().max()) < 1e-12
    assert mean[[1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("grid_width", [0, 1, 2, 3, 4])
def test_threshold_is_unbiased_along_every_walk(grid_width: int, backend: str) -> None:
    logits = logits_of("moderate", 8)
    draws = testing.enumerate_samples(logits, 3, sampler="threshold", grid_width=grid_width, backend=backend)
    assert float((testing.expected_weights(draws, 8) - logits.softmax(0)).abs().max()) < 1e-12


class TestVariance:
    @attentions
    @pytest.mark.parametrize("num_samples", [1, 2, 3, 4, 5])
    def test_murthy_at_most_desraj_and_threshold_at_most_murthy(
        self, attention: str, num_samples: int, backend: str
    ) -> None:
        def variance(sampler: str, estimator: str) -> float:
            logits, draws = drawn(attention, 5, num_samples, sampler, estimator, backend)
            return float(testing.weight_variance(draws, logits.softmax(0)))

        desraj, murthy = variance("gumbel", "desraj"), variance("gumbel", "murthy")
        assert murthy <= desraj + 1e-15
        assert variance("threshold", "inclusion") <= murthy + 1e-15
        assert desraj <= variance("replacement", "mean") + 1e-15

    @attentions
    def test_with_eight_items(self, attention: str, native: str) -> None:
        def variance(sampler: str, estimator: str) -> float:
            logits, draws = drawn(attention, 8, 3, sampler, estimator, native)
            return float(testing.weight_variance(draws, logits.softmax(0)))

        values = [variance(*rule) for rule in RULES]
        murthy, desraj, threshold, replacement = values
        assert threshold <= murthy + 1e-15
        assert murthy <= desraj + 1e-15
        assert desraj <= replacement + 1e-15

    def test_threshold_attains_the_bound_of_all_draws_of_that_size(self, backend: str) -> None:
        """``sum_i p_i^2 (1 / pi_i - 1)`` at ``pi_i = min(1, c p_i)``, the least of all unbiased rules."""
        logits, draws = drawn("moderate", 8, 3, "threshold", "inclusion", backend)
        p = logits.detach().softmax(0)
        low, high = 0.0, 1e6
        for _ in range(200):
            c = (low + high) / 2
            low, high = (c, high) if float((c * p).clamp(max=1).sum()) < 3 else (low, c)
        bound = float((p.square() * (1 / (low * p).clamp(max=1) - 1)).sum())
        assert math.isclose(float(testing.weight_variance(draws, p)), bound, rel_tol=1e-10)


class TestPublishedGradients:
    """The biases of the published gradients at 8 items and 3 draws; rough figures, for they depend on the features."""

    #: Scale of the logits, and the bounds of: relative bias of `ats`, its mean cosine with the truth, relative bias of
    #: `zoomin`, and the share of the feature gradient that `zoomin` keeps.
    CASES = (
        pytest.param(0.3, (0.30, 0.50), (0.97, 1.0), (0.3, 0.5), (0.83, 0.91), id="near-uniform"),
        pytest.param(1.0, (0.45, 0.80), (0.80, 0.99), (0.45, 0.75), (0.77, 0.87), id="moderate"),
        pytest.param(3.0, (0.90, 1.30), (-0.60, 0.0), (0.80, 1.20), (0.64, 0.74), id="peaked"),
    )
    SHAPE = torch.tensor([0.62, -1.1, 0.35, 1.46, -0.4, -0.95, 0.1, -0.08], dtype=torch.float64)

    @pytest.mark.parametrize(("scale", "ats_bias", "ats_cosine", "zoomin_bias", "kept"), CASES)
    def test_bias_grows_with_concentration_and_turns_the_gradient_around(
        self,
        scale: float,
        ats_bias: tuple[float, float],
        ats_cosine: tuple[float, float],
        zoomin_bias: tuple[float, float],
        kept: tuple[float, float],
        backend: str,
    ) -> None:
        logits = (scale * self.SHAPE).requires_grad_()
        draws = testing.enumerate_samples(logits, 3, estimator="desraj", backend=backend)
        p = logits.softmax(0)
        found: dict[str, list[float]] = {"ats": [], "zoomin": [], "exact": [], "cosine": [], "kept": []}
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            features = torch.randn(8, 1, dtype=torch.float64, generator=generator).requires_grad_()
            inputs = (features, logits)
            true_f, true = testing.exact_gradients(p, features, lambda f: f[:, 0], inputs)
            for gradient in ("exact", "ats", "zoomin"):
                grad_f, grad = testing.expected_gradients(
                    draws, features, lambda f: f[:, 0], inputs, gradient=gradient, backend=backend
                )
                found[gradient].append(float((grad - true).norm() / true.norm()))
                if gradient == "ats":
                    found["cosine"].append(float(torch.cosine_similarity(grad, true, dim=0)))
                    assert float((grad_f - true_f).abs().max()) < 1e-12  # ATS is right towards the features
                if gradient == "zoomin":
                    found["kept"].append(float(grad_f.sum() / true_f.sum()))
        mean = {name: sum(values) / len(values) for name, values in found.items()}
        assert mean["exact"] < 1e-12
        assert ats_bias[0] < mean["ats"] < ats_bias[1]
        assert ats_cosine[0] < mean["cosine"] < ats_cosine[1]
        assert zoomin_bias[0] < mean["zoomin"] < zoomin_bias[1]
        assert kept[0] < mean["kept"] < kept[1]


@attentions
def test_topk_is_biased_and_sums_to_one(attention: str, backend: str) -> None:
    logits = logits_of(attention, 5)
    draws = testing.enumerate_samples(logits, 3, sampler="topk", backend=backend)
    mean, p = testing.expected_weights(draws, 5), logits.softmax(0)
    assert math.isclose(float(mean.sum()), 1.0, abs_tol=1e-12)
    assert float((mean - p)[p.topk(3).indices].min()) >= 0
    missed = 1 - float(p.topk(3).values.sum())
    assert math.isclose(float((mean - p).abs().sum()), 2 * missed, abs_tol=1e-12)
    assert attention == "saturated" or missed > 1e-3


def two_stages(
    backend: str, num_samples: int, estimator: str, tiles: Tensor, inside: Tensor
) -> tuple[testing.Draws, Tensor]:
    first = testing.enumerate_samples(tiles, num_samples, sampler="replacement", backend=backend)
    merged, counts = testing.merge_draws(first)
    return testing.enumerate_inside(merged, inside, counts, estimator=estimator, backend=backend), counts


class TestStages:
    """Tiles with replacement, then as many sub-tiles without replacement inside a tile as it was drawn."""

    @staticmethod
    def logits(attention: str, tiles: int, inside: int) -> tuple[Tensor, Tensor]:
        outer = logits_of(attention, tiles)
        inner = torch.stack([logits_of(attention, 8).roll(t)[:inside] for t in range(tiles)])
        return outer.requires_grad_(), inner.requires_grad_()

    @classmethod
    @functools.cache
    def stages(
        cls, attention: str, num_samples: int, estimator: str, backend: str
    ) -> tuple[Tensor, Tensor, testing.Draws, Tensor]:
        tiles, inside = cls.logits(attention, 3, 4)
        return tiles, inside, *two_stages(backend, num_samples, estimator, tiles, inside)

    @attentions
    @pytest.mark.parametrize("estimator", ["murthy", "desraj"])
    @pytest.mark.parametrize("num_samples", [1, 2, 3])
    @pytest.mark.parametrize("with_baseline", [False, True], ids=["no-baseline", "baseline"])
    def test_two_stages_with_multiplicity_are_unbiased(
        self, attention: str, estimator: str, num_samples: int, with_baseline: bool, backend: str
    ) -> None:
        tiles, inside, draws, counts = self.stages(attention, num_samples, estimator, backend)
        assert int(counts.max()) == num_samples
        assert math.isclose(float(draws.probability.sum()), 1.0, abs_tol=1e-13)
        attention_now = (tiles.softmax(0)[:, None] * inside.softmax(1)).flatten()
        assert float((testing.expected_weights(draws, 12) - attention_now.detach()).abs().max()) < 1e-12
        features = features_of(12).requires_grad_()
        inputs = (features, tiles, inside)
        baseline = torch.tensor([1.5, 2.0, -1.0], dtype=torch.float64) if with_baseline else None
        mean = testing.expected_gradients(draws, features, linear, inputs, baseline=baseline, backend=backend)
        for given, wanted in zip(mean, testing.exact_gradients(attention_now, features, linear, inputs), strict=True):
            assert float((given - wanted).abs().max()) < 1e-12

    @pytest.mark.parametrize(("outer", "inner"), [("gumbel", "threshold"), ("threshold", "gumbel")])
    def test_stages_may_mix_samplers(self, outer: str, inner: str, backend: str) -> None:
        tiles, inside = self.logits("moderate", 4, 3)
        first = testing.enumerate_samples(tiles, 2, sampler=outer, backend=backend)
        draws = testing.enumerate_inside(first, inside, 2, sampler=inner, backend=backend)
        p = (tiles.softmax(0)[:, None] * inside.softmax(1)).flatten().detach()
        assert float((testing.expected_weights(draws, 12) - p).abs().max()) < 1e-12

    @pytest.mark.parametrize("attention", ["moderate", "peaked"])
    def test_three_stages_are_unbiased(self, attention: str, backend: str) -> None:
        tiles, inside = self.logits(attention, 2, 3)
        deepest = torch.stack([logits_of(attention, 8).roll(t)[:2] for t in range(6)]).requires_grad_()
        second, _ = two_stages(backend, 2, "murthy", tiles, inside)
        third = testing.enumerate_inside(second, deepest, 1, backend=backend)
        assert third.sample.index.shape[1] == second.sample.index.shape[1]
        p = ((tiles.softmax(0)[:, None] * inside.softmax(1)).flatten()[:, None] * deepest.softmax(1)).flatten()
        assert float((testing.expected_weights(third, 12) - p.detach()).abs().max()) < 1e-12
        features = features_of(12).requires_grad_()
        inputs = (features, tiles, inside, deepest)
        mean = testing.expected_gradients(third, features, linear, inputs, backend=backend)
        for given, wanted in zip(mean, testing.exact_gradients(p, features, linear, inputs), strict=True):
            assert float((given - wanted).abs().max()) < 1e-12

    def test_compose_takes_both_shapes_and_pads_what_either_stage_pads(self, backend: str) -> None:
        tiles = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], dtype=torch.float64)
        first = zoomkern.sample(tiles, 4, sampler="replacement", seed=3, backend=backend)
        merged, counts = zoomkern.merge_repeats(first)
        assert counts.sum(1).tolist() == [4, 4]
        inside = torch.randn(8, 5, dtype=torch.float64)
        second = zoomkern.sample(inside, counts.flatten(), max_samples=4, on_short="pad", seed=1, backend=backend)
        flat = zoomkern.compose(merged, second)
        deep = zoomkern.compose(merged, zoomkern.Sample(*(part.unflatten(0, (2, 4)) for part in second)))
        assert flat.index.shape == (2, 16)
        assert all(torch.equal(a, b) for a, b in zip(flat, deep, strict=True))
        assert (flat.index >= 0).sum(1).tolist() == [4, 4]
        padded = flat.index < 0
        assert not flat.weight[padded].any()
        assert not flat.log_prob[padded].any()
        third = zoomkern.sample(torch.randn(32, 3).double(), 2, seed=2, backend=backend)
        assert zoomkern.compose(flat, third).index.shape == (2, 32)

    def test_a_draw_with_its_own_count_per_row_weighs_as_draw_weights_says(self, backend: str) -> None:
        logits = torch.randn(6, 7, dtype=torch.float64)
        counts = torch.tensor([3, 0, 1, 5, 2, 4])
        for sampler, estimator in RULES:
            settings = {"sampler": sampler, "estimator": estimator, "backend": backend}
            sample = zoomkern.sample(logits, counts, seed=5, max_samples=5, **settings)
            assert (sample.index >= 0).sum(1).tolist() == counts.tolist()
            again = zoomkern.draw_weights(logits, sample.index, **settings)
            assert torch.equal(again.weight, sample.weight)
            assert torch.equal(again.log_prob, sample.log_prob)


class TestMergeRepeats:
    def test_merges_in_the_order_of_first_draws(self) -> None:
        sample = zoomkern.Sample(
            torch.tensor([[4, 2, 4, 4, 0], [1, 1, -1, -1, -1]]),
            torch.tensor([[-1.0, -2.0, -1.0, -1.0, -3.0], [-0.5, -0.5, 0.0, 0.0, 0.0]]),
            torch.tensor([[0.25, 0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0, 0.0]]),
        )
        merged, counts = zoomkern.merge_repeats(sample)
        assert merged.index.tolist() == [[4, 2, 0, -1, -1], [1, -1, -1, -1, -1]]
        assert merged.weight.tolist() == [[0.75, 0.25, 0.25, 0, 0], [1.0, 0, 0, 0, 0]]
        assert merged.log_prob.tolist() == [[-1.0, -2.0, -3.0, 0, 0], [-0.5, 0, 0, 0, 0]]
        assert counts.tolist() == [[3, 1, 1, 0, 0], [2, 0, 0, 0, 0]]


class TestEstimateTotal:
    VALUES = torch.tensor([3.0, 0.0, 7.5, -1.0, 2.0, 0.0, 11.0, 4.0], dtype=torch.float64)

    def moments(
        self, attention: str, num_samples: int, sampler: str, estimator: str, backend: str
    ) -> tuple[float, float, float, float]:
        """True total, mean total, variance of the total, mean square of its standard error."""
        _, draws = drawn(attention, 5, num_samples, sampler, estimator, backend)
        values = self.VALUES[:5]
        total, error = zoomkern.estimate_total(values[draws.sample.index], draws.sample, sampler=sampler)
        mean = float(draws.probability @ total)
        spread = float(draws.probability @ (total - mean).square())
        return float(values.sum()), mean, spread, float(draws.probability @ error.square())

    @pytest.mark.parametrize("attention", ["near-uniform", "moderate", "peaked"])
    @pytest.mark.parametrize("num_samples", [1, 2, 3, 5])
    @rules
    def test_total_is_unbiased(
        self, attention: str, num_samples: int, sampler: str, estimator: str, backend: str
    ) -> None:
        true, mean, *_ = self.moments(attention, num_samples, sampler, estimator, backend)
        assert math.isclose(mean, true, rel_tol=1e-11)

    @pytest.mark.parametrize("attention", ["near-uniform", "moderate", "peaked"])
    @pytest.mark.parametrize("num_samples", [2, 3, 4])
    @pytest.mark.parametrize(("sampler", "estimator"), [("gumbel", "desraj"), ("replacement", "mean")])
    def test_squared_error_has_the_variance_as_its_mean(
        self, attention: str, num_samples: int, sampler: str, estimator: str, backend: str
    ) -> None:
        _, _, variance, squared_error = self.moments(attention, num_samples, sampler, estimator, backend)
        assert math.isclose(squared_error, variance, rel_tol=1e-10)

    @pytest.mark.parametrize("attention", ["near-uniform", "moderate", "peaked"])
    @pytest.mark.parametrize("num_samples", [2, 3, 4])
    def test_squared_error_of_murthy_is_not_below_the_variance(
        self, attention: str, num_samples: int, backend: str
    ) -> None:
        _, _, variance, squared_error = self.moments(attention, num_samples, "gumbel", "murthy", backend)
        assert squared_error >= variance * (1 - 1e-10)

    def test_squared_error_of_threshold_is_of_the_order_of_the_variance(self, backend: str) -> None:
        _, _, variance, squared_error = self.moments("near-uniform", 3, "threshold", "inclusion", backend)
        assert 0.2 * variance < squared_error < 5 * variance

    def test_one_draw_has_no_standard_error(self, backend: str) -> None:
        sample = zoomkern.sample(torch.zeros(2, 4), 1, seed=0, backend=backend)
        total, error = zoomkern.estimate_total(torch.ones(2, 1), sample)
        assert total.tolist() == pytest.approx([4.0, 4.0], rel=1e-6)  # log_prob is float32
        assert error.isnan().all()

    def test_padded_draws_do_not_count(self, backend: str) -> None:
        logits = torch.zeros(1, 4, dtype=torch.float64)
        short = zoomkern.draw_weights(logits, torch.tensor([[2, 0]]), estimator="desraj", backend=backend)
        padded = zoomkern.draw_weights(logits, torch.tensor([[2, 0, -1]]), estimator="desraj", backend=backend)
        values = torch.tensor([[5.0, 7.0, 1e9]])
        wanted = zoomkern.estimate_total(values[:, :2], short)
        given = zoomkern.estimate_total(values, padded)
        assert torch.allclose(given[0], wanted[0], rtol=1e-14)
        assert torch.allclose(given[1], wanted[1], rtol=1e-14)


class TestOracle:
    """The enumeration itself, by hand."""

    def test_plackett_luce_by_hand(self) -> None:
        logits = torch.tensor([0.5, 0.25, 0.25]).double().log()
        index, probability = testing.enumerate_draws(logits, 2)
        found = dict(zip(map(tuple, index.tolist()), probability.tolist(), strict=True))
        wanted = {(0, 1): 1 / 4, (0, 2): 1 / 4, (1, 0): 1 / 6, (1, 2): 1 / 12, (2, 0): 1 / 6, (2, 1): 1 / 12}
        assert found == pytest.approx(wanted, abs=1e-15)

    def test_plackett_luce_keeps_its_digits_when_little_mass_is_left(self) -> None:
        logits = torch.tensor([0.0, -60.0, -60.0], dtype=torch.float64)
        index, probability = testing.enumerate_draws(logits, 3)
        found = dict(zip(map(tuple, index.tolist()), probability.tolist(), strict=True))
        assert found[0, 1, 2] == pytest.approx(0.5, rel=1e-14)
        assert found[1, 0, 2] == pytest.approx(math.exp(-60), rel=1e-13)

    def test_systematic_by_hand(self) -> None:
        logits = torch.zeros(4, dtype=torch.float64)
        index, probability = testing.enumerate_draws(logits, 2, "threshold")
        found = dict(zip(map(tuple, index.tolist()), probability.tolist(), strict=True))
        assert found == {(0, 2): 0.5, (1, 3): 0.5}
        index, _ = testing.enumerate_draws(logits, 2, "threshold", grid_width=2)  # the walk is 0 1 3 2
        assert sorted(map(tuple, index.tolist())) == [(0, 3), (1, 2)]

    def test_refuses_what_it_cannot_enumerate(self) -> None:
        with pytest.raises(ValueError, match="at most 1000000 draws"):
            testing.enumerate_draws(torch.zeros(8), 7, "replacement")
        with pytest.raises(ValueError, match="at most 3"):
            testing.enumerate_draws(torch.zeros(3), 4)
        with pytest.raises(ValueError, match="sampler must be one of"):
            testing.enumerate_draws(torch.zeros(3), 2, "gumble")
        with pytest.raises(ValueError, match="one row"):
            testing.enumerate_draws(torch.zeros(2, 3), 2)


@pytest.mark.parametrize(
    ("sampler", "logits"),
    [("gumbel", [0.0, -800.0, -900.0]), ("gumbel", [0.0, 0.0, -900.0]), ("threshold", [0.0, 0.0, -800.0])],
)
def test_items_beneath_all_probabilities_do_not_count(sampler: str, logits: list[float]) -> None:
    scores = torch.tensor([logits], dtype=torch.float64)
    sample = zoomkern.sample(scores, 3, seed=0, sampler=sampler)
    total, error = zoomkern.estimate_total(torch.ones(1, 3), sample, sampler=sampler)
    likely = int((scores > -700).sum())
    assert float(total) == pytest.approx(likely, abs=1e-9)
    assert bool(error.isnan()) == (likely < 2)


def test_composed_log_probabilities_stay_finite() -> None:
    ends = torch.finfo(torch.float32)
    outer = zoomkern.sample(torch.tensor([[ends.max, ends.min]]), 2, seed=0)
    inner = zoomkern.Sample(*(part[:, None].expand(1, 2, 2) for part in outer))
    assert zoomkern.compose(outer, inner).log_prob.tolist() == [[0.0, ends.min, ends.min, ends.min]]

"""Weight rules against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern.reference import weights

#: Probabilities of the drawn items and of all that was not drawn, from even to saturated.
DRAWS = {
    "one": ([0.25], 0.75),
    "two-even": ([0.25, 0.25], 0.5),
    "near-uniform": ([0.13, 0.11, 0.12, 0.10], 0.54),
    "moderate": ([0.40, 0.05, 0.21, 0.08, 0.01], 0.25),
    "peaked": ([0.90, 0.05, 1e-4, 0.02, 3e-7], 0.02),
    "little-left": ([0.5, 0.3, 0.15, 0.05], 1e-9),
    "much-left": ([1e-6, 2e-6, 1e-9, 5e-7], 1.0),
    "saturated": ([1.0, 1e-18, 1e-25, 1e-16], 1e-20),
    "far-apart": ([1.0, 1e-60, 1e-110], 1e-80),
    "six": ([0.3, 0.2, 0.1, 0.05, 0.02, 0.01], 0.32),
}


def chance(drawn: list[Fraction], whole: Fraction) -> Fraction:
    """Probability that the first ``len(drawn)`` draws from a mass of ``whole`` are this set, by every order."""
    total = Fraction(0)
    for order in permutations(drawn):
        left, product = whole, Fraction(1)
        for p in order:
            product *= p / left
            left -= p
        total += product
    return total


def murthy(prob: list[float], rest: float) -> list[Fraction]:
    """``p_i P(S | i first) / P(S)``, of the normalised probabilities."""
    p = [Fraction(value) for value in prob]
    whole = sum(p) + Fraction(rest)
    denominator = chance(p, whole)
    return [value * chance(p[:i] + p[i + 1 :], whole - value) / denominator for i, value in enumerate(p)]


def desraj(prob: list[float], rest: float) -> list[Fraction]:
    """Mean over j of the single-draw estimates: item i counts p_i in later ones, ``1 - sum_{l<i} p_l`` in its own."""
    p, n = [Fraction(value) for value in prob], len(prob)
    whole = sum(p) + Fraction(rest)
    return [(whole - sum(p[:i]) + (n - 1 - i) * p[i]) / n for i in range(n)]


def relative_error(given: Tensor, wanted: list[Fraction]) -> float:
    return max(float(abs(Fraction(g) / w - 1)) for g, w in zip(given.tolist(), wanted, strict=True))


def tensors(name: str) -> tuple[Tensor, Tensor]:
    prob, rest = DRAWS[name]
    return torch.tensor(prob, dtype=torch.float64), torch.tensor(rest, dtype=torch.float64)


class TestMurthy:
    @pytest.mark.parametrize("name", DRAWS)
    def test_double_rule_against_every_order(self, name: str) -> None:
        found = weights.murthy(*tensors(name), torch.float64)
        assert relative_error(found, murthy(*DRAWS[name])) < 1e-12

    @pytest.mark.parametrize("name", [name for name in DRAWS if name != "far-apart"])  # 1e-200 is no float32
    def test_single_rule_against_every_order(self, name: str) -> None:
        found = weights.murthy(*tensors(name), torch.float32)
        assert relative_error(found, murthy(*DRAWS[name])) < 1e-5

    @pytest.mark.parametrize(
        ("rule", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["single", "double"]
    )
    @pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 6.0, 10.0, 20.0])
    def test_random_attention_against_every_order(self, scale: float, rule: torch.dtype, error: float) -> None:
        for draws in (1, 2, 3, 4, 5, 5, 4, 3):
            p = (scale * torch.randn(draws + 1, dtype=torch.float64)).softmax(0)
            found = weights.murthy(p[:-1], p[-1], rule)
            assert relative_error(found, murthy(p[:-1].tolist(), float(p[-1]))) < error

    @pytest.mark.parametrize("name", DRAWS)
    def test_does_not_depend_on_the_order(self, name: str) -> None:
        prob, rest = tensors(name)
        order = torch.randperm(len(prob))
        one, other = (weights.murthy(p, rest, torch.float64) for p in (prob, prob[order]))
        assert torch.allclose(one[order], other, rtol=1e-13, atol=0)

    @pytest.mark.parametrize("name", ["two-even", "near-uniform", "moderate", "peaked", "little-left"])
    def test_is_the_mean_of_desraj_over_all_orders(self, name: str) -> None:
        """Weighted by how likely each order is, given the set (Rao and Blackwell)."""
        prob, rest = DRAWS[name]
        p = [Fraction(value) for value in prob]
        whole = sum(p) + Fraction(rest)
        mean, certain = [Fraction(0)] * len(p), chance(p, whole)
        for order in permutations(range(len(p))):
            left, product = whole, Fraction(1)
            for i in order:
                product *= p[i] / left
                left -= p[i]
            for i, weight in zip(order, desraj([prob[i] for i in order], rest), strict=True):
                mean[i] += product / certain * weight
        assert relative_error(weights.murthy(*tensors(name), torch.float64), mean) < 1e-12

    def test_nothing_left_gives_the_probabilities(self) -> None:
        prob = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
        assert weights.murthy(prob, torch.zeros((), dtype=torch.float64), torch.float64).tolist() == prob.tolist()

    @pytest.mark.parametrize("draws", [10, 100, 1000])
    @pytest.mark.parametrize("scale", [0.1, 3.0, 20.0])
    def test_many_draws_sum_to_one_and_lie_above_their_probability(self, draws: int, scale: float) -> None:
        p = (scale * torch.randn(4 * draws, dtype=torch.float64)).softmax(0).sort(descending=True).values
        found = weights.murthy(p[:draws], p[draws:].sum(), torch.float64)
        assert float(found.sum()) == pytest.approx(1.0, abs=1e-12)
        assert bool((found >= p[:draws] * (1 - 1e-12)).all())
        assert bool((found[:-1] >= found[1:] * (1 - 1e-9)).all())  # likelier items weigh more

    def test_every_backend_gives_the_rational_weight(self, backend: str) -> None:
        logits = torch.tensor([0.3, 2.0, -1.5, 0.0, 1.1, -3.0, 0.7], dtype=torch.float64)
        p = logits.softmax(0)
        for size in (1, 2, 4, 6):
            for drawn in list(combinations(range(7), size))[:12]:
                sample = zoomkern.draw_weights(logits[None], torch.tensor([drawn]), backend=backend)
                rest = [float(p[i]) for i in range(7) if i not in drawn]
                wanted = murthy([float(p[i]) for i in drawn], float(sum(map(Fraction, rest))))
                assert relative_error(sample.weight[0], wanted) < 1e-12


class TestDesraj:
    @pytest.mark.parametrize("name", DRAWS)
    def test_against_its_definition(self, name: str) -> None:
        found = weights.desraj(*tensors(name))
        assert relative_error(found, desraj(*DRAWS[name])) < 1e-13

    def test_by_hand(self) -> None:
        """Three draws of 1/2, 1/4, 1/8: estimates 1 f1; 1/2 f1 + 1/2 f2; 1/2 f1 + 1/4 f2 + 1/4 f3; their mean."""
        prob = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64)
        found = weights.desraj(prob, torch.tensor(0.125, dtype=torch.float64))
        assert found.tolist() == pytest.approx([2 / 3, 1 / 4, 1 / 12], rel=1e-15)

    def test_depends_on_the_order(self) -> None:
        prob, rest = tensors("moderate")
        assert not torch.allclose(weights.desraj(prob, rest).flip(0), weights.desraj(prob.flip(0), rest))


@pytest.mark.parametrize("sampler", ["threshold", "replacement", "topk", "gumbel"])
def test_weights_of_logits_whose_spread_overflows_are_numbers(backend, sampler):
    logits = torch.tensor([[1.7e308, -1e308, -1.7e308, 1e308]], dtype=torch.float64)
    weight = zoomkern.draw_weights(logits, torch.tensor([[0, 1]]), sampler=sampler, backend=backend).weight
    assert weight[0, 0] > 0
    assert weight.isfinite().all()

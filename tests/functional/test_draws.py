"""What is drawn, how often, and what a seed, a mask or a count means.

False alarms: every chi-square here fails a right sampler with probability 1e-9, the file with less than 1e-7. Seeds are
fixed, so a pass stays a pass.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

import zoomkern
from zoomkern import testing
from zoomkern.reference import exact, masses, random
from zoomkern.reference.sampling import SAMPLERS

FALSE_ALARM = 1e-9
SHAPES = {
    "equal": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "diffuse": [0.3, -0.4, 0.0, 0.5, -0.2, 0.1],
    "moderate": [1.2, -0.8, 0.4, -1.5, 0.9, 0.0],
    "peaked": [-1.0, 3.0, 0.5, -2.0, 1.5, -3.0],
}

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
random_samplers = pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "topk"])
without_replacement = pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "replacement"])


def assert_follows(index: Tensor, outcomes: Tensor, probability: Tensor, items: int) -> None:
    """Chi-square of ``index [R, N]`` against the law of ``outcomes [K, N]``; outcomes expected under 10 times pool."""
    powers = items ** torch.arange(index.shape[1])
    size = items ** index.shape[1]
    observed = ((index * powers).sum(1)).bincount(minlength=size).double()
    expected = torch.zeros(size, dtype=torch.float64)
    expected.index_add_(0, (outcomes * powers).sum(1), probability * index.shape[0])
    assert float(observed[expected == 0].sum()) == 0, "an outcome was drawn that cannot be"
    rare = expected < 10
    cells = torch.cat([expected[~rare], expected[rare].sum()[None]])
    found = torch.cat([observed[~rare], observed[rare].sum()[None]])
    found, cells = found[cells > 0], cells[cells > 0]
    assert float(stats.chi2.sf(float(((found - cells) ** 2 / cells).sum()), max(len(cells) - 1, 1))) > FALSE_ALARM


def rows_of(logits: Tensor, rows: int) -> Tensor:
    return logits.expand(rows, *logits.shape).contiguous()


class TestLaw:
    #: items, draws, shape, rows: 10^7 draws in all.
    CASES = (
        (2, 1, "moderate", 500_000),
        (3, 1, "peaked", 500_000),
        (3, 3, "equal", 1_000_000),
        (4, 2, "diffuse", 1_000_000),
        (4, 3, "peaked", 1_000_000),
        (5, 2, "peaked", 1_000_000),
        (5, 3, "moderate", 1_000_000),
        (6, 2, "moderate", 1_000_000),
        (6, 3, "diffuse", 1_500_000),
        (6, 3, "peaked", 1_500_000),
    )

    def test_cases_hold_ten_million_draws(self) -> None:
        assert sum(rows for *_, rows in self.CASES) == 10**7

    @pytest.mark.parametrize(("items", "num_samples", "shape", "rows"), CASES)
    def test_ordered_draws_follow_plackett_luce(
        self, items: int, num_samples: int, shape: str, rows: int, native: str
    ) -> None:
        logits = torch.tensor(SHAPES[shape][:items])
        drawn = [
            zoomkern.sample(rows_of(logits, 250_000), num_samples, estimator="desraj", seed=seed, backend=native).index
            for seed in range(rows // 250_000)
        ]
        assert_follows(torch.cat(drawn), *testing.enumerate_draws(logits, num_samples), items)

    def test_consecutive_row_seeds_follow_plackett_luce(self, native: str) -> None:
        logits = torch.tensor(SHAPES["moderate"])
        seeds = torch.arange(500_000)
        drawn = zoomkern.sample(rows_of(logits, 500_000), 2, estimator="desraj", seed=seeds, backend=native)
        assert_follows(drawn.index, *testing.enumerate_draws(logits, 2), 6)

    @pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement"])
    def test_reference_follows_the_law(self, sampler: str) -> None:
        logits = torch.tensor(SHAPES["moderate"][:4])
        estimator = "desraj" if sampler == "gumbel" else None
        drawn = zoomkern.sample(
            rows_of(logits, 800), 2, sampler=sampler, estimator=estimator, seed=1, backend="reference"
        )
        assert_follows(drawn.index, *testing.enumerate_draws(logits, 2, sampler), 4)

    @pytest.mark.parametrize("num_samples", [1, 2, 3])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_replacement_draws_independently(self, num_samples: int, shape: str, native: str) -> None:
        logits = torch.tensor(SHAPES[shape][:5])
        drawn = zoomkern.sample(rows_of(logits, 500_000), num_samples, sampler="replacement", seed=2, backend=native)
        assert_follows(drawn.index, *testing.enumerate_draws(logits, num_samples, "replacement"), 5)

    @pytest.mark.parametrize("num_samples", [1, 2, 3, 5])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_threshold_draws_every_set_as_often_as_its_start_allows(
        self, num_samples: int, shape: str, native: str
    ) -> None:
        logits = torch.tensor(SHAPES[shape])
        drawn = zoomkern.sample(rows_of(logits, 500_000), num_samples, sampler="threshold", seed=3, backend=native)
        assert_follows(drawn.index, *testing.enumerate_draws(logits, num_samples, "threshold"), 6)

    def test_threshold_walks_a_grid_in_a_serpentine(self, native: str) -> None:
        logits = torch.tensor(SHAPES["moderate"])
        drawn = zoomkern.sample(rows_of(logits.view(3, 2), 500_000), 2, sampler="threshold", seed=4, backend=native)
        assert_follows(drawn.index, *testing.enumerate_draws(logits, 2, "threshold", grid_width=2), 6)

    def test_a_wrong_law_is_noticed(self) -> None:
        logits = torch.tensor(SHAPES["diffuse"][:4])
        drawn = zoomkern.sample(rows_of(logits, 2000), 2, seed=0, sampler="replacement")
        outcomes, probability = testing.enumerate_draws(logits * 1.5, 2, "replacement")
        with pytest.raises(AssertionError):
            assert_follows(drawn.index, outcomes, probability, 4)


class TestInclusion:
    @pytest.mark.parametrize("num_samples", range(1, 9))
    @pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 40.0])
    def test_threshold_includes_each_item_with_the_least_variance_probability(
        self, num_samples: int, scale: float
    ) -> None:
        """``pi_i = min(1, c p_i)`` with ``sum_i pi_i = N``, by enumeration, against a bisection for ``c``."""
        logits = scale * torch.tensor([0.4, -1.3, 1.1, 0.0, -0.7, 0.9, -0.2, 1.6], dtype=torch.float64)
        index, probability = testing.enumerate_draws(logits, num_samples, "threshold")
        assert math.isclose(float(probability.sum()), 1.0, abs_tol=1e-14)
        found = torch.zeros(8, dtype=torch.float64).index_add_(
            0, index.flatten(), probability.repeat_interleave(num_samples)
        )
        mass = masses.fixed_point(logits)
        assert torch.allclose(found, masses.inclusion(mass, masses.cut(mass, num_samples)), rtol=1e-14, atol=0)
        p = mass.double() / mass.sum()
        low, high = 0.0, 2.0**60
        for _ in range(300):
            middle = (low + high) / 2
            low, high = (middle, high) if float((middle * p).clamp(max=1).sum()) < num_samples else (low, middle)
        assert torch.allclose(found, (high * p).clamp(max=1), rtol=1e-9, atol=1e-12)

    def test_masses_are_the_attention_to_52_bits(self) -> None:
        logits = 3 * torch.randn(1000, dtype=torch.float64)
        mass = masses.fixed_point(logits)
        assert int(mass.sum()) < 1 << 62
        assert float((mass.double() / mass.sum() - logits.softmax(0)).abs().max()) < 1001 * 2**-52


class TestTies:
    ITEMS, DRAWS = 10_000_000, 1000

    @staticmethod
    def keys(logits: Tensor, index: Tensor, seed: int) -> Tensor:
        """Race keys of the items ``index`` of one row, float64."""
        group, word = index >> 2, index & 3

        def words(stream: int) -> Tensor:
            zero = torch.zeros_like(group)
            four = random.philox((group & random.MASK32, group >> 32, zero, zero + stream), torch.tensor(seed))
            return torch.stack(four, -1).gather(-1, word[:, None]).squeeze(-1)

        variate = exact.log_exponential(words(random.RACE_STREAM), words(random.RACE_STREAM + 1))
        return (logits[index].double() - logits.max().double()) - variate

    @pytest.mark.parametrize("shift", [0.0, 1e4], ids=["centred", "shifted"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
    @pytest.mark.parametrize("scale", [0.0, 1.0], ids=["equal", "normal"])
    def test_no_two_winners_of_ten_million_share_a_key(
        self, shift: float, dtype: torch.dtype, scale: float, native: str
    ) -> None:
        logits = torch.randn(self.ITEMS, dtype=dtype) * scale + shift
        drawn = zoomkern.sample(logits[None], self.DRAWS, estimator="desraj", seed=11, backend=native)
        index = drawn.index[0]
        keys = self.keys(logits, index, 11)
        assert len(index.unique()) == self.DRAWS
        assert bool((keys[:-1] > keys[1:]).all())

    def test_reference_orders_winners_by_the_same_keys(self) -> None:
        logits = torch.randn(50_000)
        index = zoomkern.sample(logits[None], 500, estimator="desraj", seed=12, backend="reference").index[0]
        keys = self.keys(logits, index, 12)
        assert bool((keys[:-1] > keys[1:]).all())

    @samplers
    def test_a_shift_that_loses_no_digit_leaves_the_draw_alone(self, sampler: str, backend: str) -> None:
        logits = (torch.randn(2, 3000) * 256).round() / 256
        one, other = (
            zoomkern.sample(logits + shift, 30, sampler=sampler, seed=7, backend=backend) for shift in (0, 1e4)
        )
        assert torch.equal(one.index, other.index)
        assert torch.allclose(one.weight, other.weight, rtol=1e-5)


class TestMask:
    @samplers
    def test_a_masked_cell_is_never_in_a_million_draws(self, sampler: str, native: str) -> None:
        mask = torch.rand(62_500, 64) < 0.5
        mask[:, :16] = True  # as many as are drawn
        logits = torch.where(mask, torch.randn(62_500, 64), 50.0)
        estimator = "desraj" if sampler == "gumbel" else None
        drawn = zoomkern.sample(logits, 16, sampler=sampler, estimator=estimator, mask=mask, seed=1, backend=native)
        assert drawn.index.numel() == 10**6
        assert bool(mask.gather(1, drawn.index).all())

    @samplers
    def test_a_masked_item_is_never_drawn_where_few_are_left(self, sampler: str, backend: str) -> None:
        mask = torch.zeros(4, 20, 25, dtype=torch.bool)
        mask.view(4, -1)[torch.arange(4)[:, None], torch.rand(4, 500).topk(9).indices] = True
        logits = torch.where(mask, torch.randn(4, 20, 25), 1e4)
        drawn = zoomkern.sample(logits, 9, sampler=sampler, mask=mask, seed=1, backend=backend)
        assert bool(mask.flatten(1).gather(1, drawn.index).all())
        if sampler != "replacement":
            assert all(len(set(row)) == 9 for row in drawn.index.tolist())

    @pytest.mark.parametrize("sampler", ["gumbel", "topk"])
    def test_a_masked_item_is_never_drawn_where_float64_overflows(self, sampler: str, backend: str) -> None:
        logits = torch.tensor([[1.7e308, 0.0, -1.7e308, -1.7e308]], dtype=torch.float64)
        mask = torch.tensor([[True, False, True, True]])
        index = zoomkern.sample(logits, 3, sampler=sampler, mask=mask, seed=0, backend=backend).index
        assert index.tolist() == [[0, 2, 3]]

    @samplers
    def test_a_mask_is_minus_infinity(self, sampler: str, backend: str) -> None:
        logits, mask = torch.randn(3, 400), torch.rand(3, 400) < 0.5
        masked = zoomkern.sample(logits, 12, sampler=sampler, mask=mask, seed=5, backend=backend)
        minus = zoomkern.sample(logits.masked_fill(~mask, -torch.inf), 12, sampler=sampler, seed=5, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(masked, minus, strict=True))

    @samplers
    def test_what_a_mask_hides_does_not_matter(self, sampler: str, backend: str) -> None:
        logits, mask = torch.randn(2, 300), torch.rand(2, 300) < 0.7
        mask[:, 0] = False
        settings = {"sampler": sampler, "mask": mask, "seed": 5, "backend": backend}
        plain = zoomkern.sample(logits, 10, **settings)
        odd = logits.clone()
        odd[:, 0] = torch.tensor([torch.nan, torch.inf])
        assert all(torch.equal(a, b) for a, b in zip(plain, zoomkern.sample(odd, 10, **settings), strict=True))

    @samplers
    def test_too_few_items_raise(self, sampler: str, backend: str) -> None:
        mask = torch.zeros(2, 10, dtype=torch.bool)
        mask[0] = True
        with pytest.raises(ValueError, match="logits must have at least .* row 1 has 0"):
            zoomkern.sample(torch.zeros(2, 10), 3, sampler=sampler, mask=mask, seed=0, backend=backend)


class TestSeeds:
    LOGITS = torch.linspace(-1, 1, 600).reshape(3, 200)

    @random_samplers
    @pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 123456789])
    def test_an_int_is_a_tensor(self, sampler: str, seed: int, backend: str) -> None:
        one, other = (
            zoomkern.sample(self.LOGITS, 20, sampler=sampler, seed=s, backend=backend)
            for s in (seed, torch.tensor(seed))
        )
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_a_seed_of_64_bits_is_its_signed_twin(self, backend: str) -> None:
        one, other = (zoomkern.sample(self.LOGITS, 20, seed=s, backend=backend).index for s in (2**64 - 5, -5))
        assert torch.equal(one, other)

    @random_samplers
    def test_seeds_and_rows_differ_in_every_part(self, sampler: str, backend: str) -> None:
        """A seed's lower and upper word and the row each change the draw."""
        logits = torch.zeros(1, 5000).expand(2, -1)
        drawn = [
            zoomkern.sample(logits, 8, sampler=sampler, seed=s, backend=backend).index for s in (0, 1, 1 << 32, 1 << 63)
        ]
        rows = {tuple(row) for index in drawn for row in index.tolist()}
        assert len(rows) == 8

    @samplers
    def test_a_row_with_its_own_seed_draws_alone_what_it_draws_in_a_batch(self, sampler: str, backend: str) -> None:
        seeds = torch.tensor([5, -9, 2**40])
        whole = zoomkern.sample(self.LOGITS, 15, sampler=sampler, seed=seeds, backend=backend)
        for b in range(3):
            for seed in (seeds[b : b + 1], seeds[b], int(seeds[b])):
                alone = zoomkern.sample(self.LOGITS[b : b + 1], 15, sampler=sampler, seed=seed, backend=backend)
                assert all(torch.equal(a[0], w[b]) for a, w in zip(alone, whole, strict=True))

    @random_samplers
    def test_manual_seed_repeats_a_draw_and_moves_on(self, sampler: str, backend: str) -> None:
        def draw() -> Tensor:
            return zoomkern.sample(self.LOGITS, 30, sampler=sampler, backend=backend).index

        torch.manual_seed(4)
        first, second = draw(), draw()
        torch.manual_seed(4)
        assert torch.equal(draw(), first)
        assert torch.equal(draw(), second)
        assert not torch.equal(first, second)

    def test_a_generator_gives_the_seed_and_leaves_the_global_one_alone(self, backend: str) -> None:
        state = torch.get_rng_state()
        one, other = (
            zoomkern.sample(self.LOGITS, 30, generator=torch.Generator().manual_seed(8), backend=backend).index
            for _ in range(2)
        )
        assert torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)

    @samplers
    def test_a_given_seed_leaves_the_global_generator_alone(self, sampler: str, backend: str) -> None:
        state = torch.get_rng_state()
        zoomkern.sample(self.LOGITS, 3, sampler=sampler, seed=0, backend=backend)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_draw_of_a_seed_is_a_contract(self, backend: str) -> None:
        """Written down once; a change of these numbers breaks every user's recorded seeds."""
        logits = (torch.arange(1000) % 17).float()[None] / 4
        found = {
            sampler: zoomkern.sample(logits, 5, sampler=sampler, seed=2024, backend=backend).index[0].tolist()
            for sampler in SAMPLERS
        }
        assert found == {
            "gumbel": [815, 758, 608, 896, 16],
            "threshold": [32, 234, 434, 628, 830],
            "replacement": [560, 473, 964, 117, 968],
            "topk": [16, 33, 50, 67, 84],
        }


class TestCounts:
    @pytest.mark.parametrize("sampler", ["gumbel", "replacement", "topk"])
    def test_fewer_draws_are_the_first_of_more(self, sampler: str, backend: str) -> None:
        logits = torch.randn(4, 300)
        counts = torch.tensor([0, 1, 7, 12])
        most = zoomkern.sample(logits, 12, sampler=sampler, seed=6, backend=backend).index
        some = zoomkern.sample(logits, counts, sampler=sampler, max_samples=12, seed=6, backend=backend)
        for b, count in enumerate(counts.tolist()):
            assert torch.equal(some.index[b, :count], most[b, :count])
            assert some.index[b, count:].eq(-1).all()
            assert not some.weight[b, count:].any()
            assert not some.log_prob[b, count:].any()

    @samplers
    def test_a_count_draws_as_an_int_does(self, sampler: str, backend: str) -> None:
        logits, seeds = torch.randn(3, 90), torch.tensor([3, 1, 4])
        counts = torch.tensor([4, 2, 9])
        some = zoomkern.sample(logits, counts, sampler=sampler, seed=seeds, backend=backend)
        assert some.index.shape == (3, 9)
        for b, count in enumerate(counts.tolist()):
            alone = zoomkern.sample(logits[b : b + 1], count, sampler=sampler, seed=seeds[b : b + 1], backend=backend)
            assert all(torch.equal(s[b, :count], a[0]) for s, a in zip(some, alone, strict=True))

    @without_replacement
    def test_a_short_row_is_padded_behind_all_its_items(self, sampler: str, backend: str) -> None:
        logits = torch.full((2, 40), -torch.inf, dtype=torch.float64)
        logits[0, [3, 17, 30]] = torch.tensor([0.0, 2.0, -1.0]).double()
        drawn = zoomkern.sample(logits, 5, sampler=sampler, on_short="pad", seed=1, backend=backend)
        assert sorted(drawn.index[0, :3].tolist()) == [3, 17, 30]
        assert drawn.index[0, 3:].tolist() == [-1, -1]
        assert drawn.index[1].tolist() == [-1] * 5
        assert drawn.weight[0, 3:].tolist() == [0, 0]
        assert drawn.weight[1].tolist() == [0] * 5
        assert bool(drawn.log_prob.isfinite().all())
        p = logits[0].softmax(0)[drawn.index[0, :3]]
        assert torch.allclose(drawn.weight[0, :3], p, rtol=1e-12)  # all that is there was drawn

    def test_replacement_pads_only_where_nothing_may_be_drawn(self, backend: str) -> None:
        logits = torch.full((2, 8), -torch.inf)
        logits[0, 5] = 0.0
        drawn = zoomkern.sample(logits, 3, sampler="replacement", on_short="pad", seed=1, backend=backend)
        assert drawn.index.tolist() == [[5, 5, 5], [-1, -1, -1]]
        assert drawn.weight[0].tolist() == pytest.approx([1 / 3] * 3)
        assert drawn.weight[1].tolist() == [0.0] * 3

    @samplers
    def test_no_images_draw_nothing(self, sampler: str, backend: str) -> None:
        drawn = zoomkern.sample(torch.zeros(0, 4), 3, sampler=sampler, seed=0, backend=backend)
        assert [part.shape for part in drawn] == [(0, 3)] * 3


class TestExtremes:
    @samplers
    def test_items_at_minus_infinity_are_never_drawn(self, sampler: str, backend: str) -> None:
        logits = torch.randn(2, 1000)
        logits[:, ::2] = -torch.inf
        drawn = zoomkern.sample(logits, 400, sampler=sampler, seed=1, backend=backend)
        assert bool((drawn.index % 2 == 1).all())
        assert bool(drawn.log_prob.isfinite().all())

    @samplers
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
    def test_logits_at_the_ends_of_float32(self, sampler: str, dtype: torch.dtype, backend: str) -> None:
        logits = torch.full((1, 300), -3e38, dtype=dtype)
        logits[0, 77] = 3e38
        draws = 1 if sampler == "replacement" else 3
        drawn = zoomkern.sample(logits, draws, sampler=sampler, seed=1, backend=backend)
        assert 77 in drawn.index[0].tolist()
        assert bool(drawn.log_prob.isfinite().all())
        assert bool(drawn.weight.isfinite().all())
        own = drawn.index[0] == 77
        assert float(drawn.weight[0, own].sum()) == pytest.approx(1.0)
        assert float(drawn.weight[0, ~own].sum()) == pytest.approx(0.0, abs=1e-12)
        assert float(drawn.log_prob[0, own][0]) == pytest.approx(0.0, abs=1e-6)

    @samplers
    def test_equal_logits_of_any_size_are_uniform(self, sampler: str, backend: str) -> None:
        drawn = [
            zoomkern.sample(torch.full((1, 50), value), 10, sampler=sampler, seed=4, backend=backend)
            for value in (0.0, 3e38, -3e38, 1e-40)
        ]
        assert all(torch.equal(other.index, drawn[0].index) for other in drawn)
        assert all(torch.allclose(d.log_prob.exp(), torch.tensor(0.02), rtol=1e-6) for d in drawn)

    @samplers
    def test_temperature_divides_the_logits(self, sampler: str, backend: str) -> None:
        logits = torch.randn(2, 500)
        cooled = zoomkern.sample(logits, 20, sampler=sampler, temperature=0.25, seed=3, backend=backend)
        divided = zoomkern.sample(logits / 0.25, 20, sampler=sampler, seed=3, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(cooled, divided, strict=True))

    @without_replacement
    def test_drawing_all_items_draws_each_once_with_its_own_probability(self, sampler: str, backend: str) -> None:
        logits = 2 * torch.randn(1, 97, dtype=torch.float64)
        drawn = zoomkern.sample(logits, 97, sampler=sampler, seed=2, backend=backend)
        assert sorted(drawn.index[0].tolist()) == list(range(97))
        p = logits[0].softmax(0)[drawn.index[0]]
        assert float(drawn.weight.sum()) == pytest.approx(1.0, abs=1e-12)
        if sampler != "gumbel":
            assert torch.allclose(drawn.weight[0], p, rtol=1e-12)
        assert torch.allclose(drawn.log_prob[0], p.log(), rtol=1e-12)

    @samplers
    def test_a_single_item_is_certain(self, sampler: str, backend: str) -> None:
        drawn = zoomkern.sample(torch.tensor([[-7.5]]), 1, sampler=sampler, seed=0, backend=backend)
        assert [part.item() for part in drawn] == [0, 0.0, 1.0]


class TestThresholdWalk:
    @staticmethod
    def steps(grid: tuple[int, int]) -> dict[int, int]:
        """Step of the serpentine walk at which each cell comes."""
        rows, columns = grid
        walk = [r * columns + (c if r % 2 == 0 else columns - 1 - c) for r in range(rows) for c in range(columns)]
        return {cell: step for step, cell in enumerate(walk)}

    @pytest.mark.parametrize("grid", [(7, 9), (1, 63), (63, 1), (8, 8)], ids=str)
    @pytest.mark.parametrize("draws", [1, 4, 10, 31])
    def test_equal_cells_are_drawn_at_even_distances_along_the_serpentine(
        self, grid: tuple[int, int], draws: int, backend: str
    ) -> None:
        cells = grid[0] * grid[1]
        index = zoomkern.sample(torch.zeros(5, *grid), draws, sampler="threshold", seed=1, backend=backend).index
        step = self.steps(grid)
        for row in index.tolist():
            walked = sorted(step[cell] for cell in row)
            gaps = {b - a for a, b in zip(walked, walked[1:], strict=False)}
            assert gaps <= {cells // draws, -(-cells // draws)}

    def test_a_list_is_walked_in_index_order(self, backend: str) -> None:
        index = zoomkern.sample(torch.zeros(8, 60), 12, sampler="threshold", seed=1, backend=backend).index
        assert bool((index.diff(dim=1) == 5).all())

    def test_along_the_walk_the_mass_between_draws_is_even(self, backend: str) -> None:
        """Each of the equal shares of the mass, in the order of the walk, holds one draw."""
        logits = 0.5 * torch.randn(12, 11, dtype=torch.float64)
        p = logits.flatten().softmax(0)
        assert float(p.max()) < 1 / 9
        step = self.steps((12, 11))
        order = torch.tensor(sorted(step, key=step.__getitem__))
        after = torch.empty_like(p)
        after[order] = p[order].cumsum(0)
        for seed in range(20):
            index = zoomkern.sample(logits[None], 9, sampler="threshold", seed=seed, backend=backend).index[0]
            index = torch.tensor(sorted(index.tolist(), key=step.__getitem__))
            share = torch.arange(9)
            assert bool((after[index] > share / 9 - 1e-9).all())
            assert bool((after[index] - p[index] < (share + 1) / 9 + 1e-9).all())

    def test_likely_items_are_certain(self, backend: str) -> None:
        logits = torch.zeros(50, 100)
        logits[:, [7, 70]] = 8.0
        drawn = zoomkern.sample(logits, 6, sampler="threshold", seed=1, backend=backend)
        assert bool(((drawn.index == 7).sum(1) == 1).all())
        assert bool(((drawn.index == 70).sum(1) == 1).all())

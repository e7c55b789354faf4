"""The kernels of sampling draw what the reference draws, at every border of their regimes and under any schedule.

They run in the emulation of tests/csrc/emulation, which takes the place of the CPU's ops.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.typing import Sample

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WARP_ROW, SPAN, PIECE = 1024, 512, 4096  # of csrc/cuda/sampling.cu and rows.cuh
BLOCK_ROW = {dtype: min(32768, (88 << 10) // dtype.itemsize) for dtype in DTYPES}  # that a block keeps
SHORT = (1, 2, 3, 4, 5, 31, 32, 33, 127, 129, SPAN - 1, SPAN, SPAN + 1, WARP_ROW - 1, WARP_ROW)
MIDDLE = (WARP_ROW + 1, 2 * WARP_ROW + 3, PIECE - 1, PIECE + 1, 8191)
BORDER = (-1, 0, 1, SPAN, 5 * 4096 + 1)  # items more than the longest row of a block

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


@pytest.fixture(autouse=True)
def reseed() -> Iterator[Callable[[int], None]]:
    """Draws another schedule of threads and blocks."""
    emulated = [path for path in torch.ops.loaded_libraries if "emulated" in str(path)]
    if not emulated:
        pytest.skip("the kernels are not emulated in this process")
    function = ctypes.CDLL(emulated[0]).zoomkern_reseed_emulation
    function.argtypes = [ctypes.c_uint64]
    yield function
    function(1)


def draw(logits: Tensor, draws: int | Tensor, sampler: str, backend: str = "cpu", **case: Any) -> Sample:
    # Murthy's quadrature is what makes the reference slow.
    case.setdefault("estimator", "desraj" if sampler == "gumbel" else None)
    return zoomkern.sample(logits, draws, sampler=sampler, backend=backend, on_short="pad", **case)


def assert_close(given: Sample, wanted: Sample) -> None:
    """The tolerances are derived in tests/ops/test_sampling.py."""
    single = wanted.weight.dtype == torch.float32
    last = torch.finfo(wanted.weight.dtype).eps
    log_prob, weight = wanted.log_prob.double(), wanted.weight.double()
    allowed = (1e-6 if single else 1e-12) + last * log_prob.abs()
    assert bool(((given.log_prob - log_prob).abs() <= allowed).all())
    allowed += last + (4e-6 if single else 2e-12)
    assert bool(((given.weight - weight).abs() <= torch.finfo(torch.float32).tiny + allowed * weight).all())


def assert_same(logits: Tensor, draws: int | Tensor, sampler: str, **case: Any) -> Sample:
    given, wanted = (draw(logits, draws, sampler, backend, **case) for backend in ("cpu", "reference"))
    assert torch.equal(given.index, wanted.index)
    assert_close(given, wanted)
    return given


class TestSizes:
    @samplers
    @dtypes
    @pytest.mark.parametrize("items", SHORT)
    def test_rows_of_a_warp(self, sampler: str, dtype: torch.dtype, items: int) -> None:
        logits = (2 * torch.randn(5, items)).to(dtype)
        assert_same(logits, min(items, 7), sampler, seed=items, mask=torch.rand(5, items) < 0.9)

    @samplers
    @dtypes
    @pytest.mark.parametrize("items", MIDDLE)
    def test_rows_of_a_block(self, sampler: str, dtype: torch.dtype, items: int) -> None:
        logits = (2 * torch.randn(2, items)).to(dtype)
        assert_same(logits, 20, sampler, seed=torch.tensor([items, -items]), mask=torch.rand(2, items) < 0.9)

    @samplers
    @dtypes
    @pytest.mark.parametrize("more", BORDER)
    def test_rows_of_one_block_or_many(self, sampler: str, dtype: torch.dtype, more: int) -> None:
        items = BLOCK_ROW[dtype] + more
        logits = (2 * torch.randn(2, items)).to(dtype)
        assert_same(logits, 20, sampler, seed=torch.tensor([items, -items]))

    @samplers
    @pytest.mark.parametrize(("rows", "items"), [(150, 90), (40, 1100), (3, 33_000)])
    def test_a_team_that_has_several_rows(self, sampler: str, rows: int, items: int) -> None:
        logits = torch.randn(rows, items)
        logits[1::3] = -torch.inf  # a row from which nothing is drawn leaves no trace in the next
        given = assert_same(logits, 6, sampler, seed=1)
        assert not (given.index[1::3] + 1).any()

    @samplers
    @pytest.mark.parametrize(
        ("shape", "width"), [((30, 31), 31), ((70, 61), 61), ((300, 111), 111), ((2, 17_000), 17_000)]
    )
    def test_walks_over_grids(self, sampler: str, shape: tuple[int, int], width: int) -> None:
        assert_same(torch.randn(2, *shape), 25, sampler, seed=width)


def _peaked(items: int) -> Tensor:
    logits = torch.randn(items)
    logits[items // 3] += 500
    return logits


def _spread(items: int) -> Tensor:
    logits = torch.full((items,), -5000.0)
    logits[:: items // 50] = -400 * torch.arange(len(logits[:: items // 50])).float()
    return logits


def _all_but_few(items: int) -> Tensor:
    logits = torch.full((items,), -torch.inf)
    logits[torch.randperm(items)[:45]] = torch.randn(45)
    return logits


ROWS: dict[str, Callable[[int], Tensor]] = {
    "equal": torch.zeros,
    "peaked": _peaked,
    "wide": lambda items: 1000 * torch.randn(items),
    "steep": lambda items: -0.7 * torch.arange(items).float(),
    "hundreds apart": _spread,
    "beyond all digits": lambda items: torch.where(torch.arange(items) % 2 == 0, -1e30, torch.randn(items)),
    "only beyond all digits": lambda items: torch.where(torch.arange(items) < 3, 0.0, -1e30),
    "every other masked": lambda items: torch.where(torch.arange(items) % 2 == 0, -torch.inf, torch.randn(items)),
    "few drawable": _all_but_few,
    "a peak in every stretch": lambda items: torch.where(torch.arange(items) % 300 == 7, 25.0, torch.randn(items)),
    "both zeros": lambda items: torch.where(torch.rand(items) < 0.5, -0.0, 0.0),
    "ties": lambda items: torch.randn(items).mul(2).round(),
}


@samplers
@pytest.mark.parametrize("items", [700, 5000, 33_000])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_are_hard_to_bound(sampler: str, items: int, kind: str) -> None:
    torch.manual_seed(items)
    logits = ROWS[kind](items).expand(2, items)
    for draws in (1, 40):
        assert_same(logits, draws, sampler, seed=draws)


@pytest.mark.parametrize("kind", ["equal", "peaked", "wide", "steep", "a peak in every stretch"])
@pytest.mark.parametrize("items", [700, 5000, 33_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_murthy_weights_of_rows_that_are_hard_to_bound(items: int, kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(items)
    assert_same(ROWS[kind](items).to(dtype)[None], 40, "gumbel", estimator="murthy", seed=3)


class TestNumbersOfDraws:
    @samplers
    @pytest.mark.parametrize(("items", "draws"), [(40, 40), (40, 60), (1024, 1024), (3000, 2990), (3000, 3100)])
    def test_as_many_as_items_or_more(self, sampler: str, items: int, draws: int) -> None:
        assert_same(torch.randn(2, items), draws, sampler, seed=4)

    @samplers
    @pytest.mark.parametrize("items", [200, 2000, 33_000])
    def test_another_number_in_every_row(self, sampler: str, items: int) -> None:
        logits, counts = torch.randn(4, items), torch.tensor([0, 9, 3, 1])
        logits[2, 2:] = -torch.inf
        assert_same(logits, counts, sampler, max_samples=9, seed=5)

    @pytest.mark.parametrize("sampler", ["gumbel", "topk", "threshold"])
    @pytest.mark.parametrize("draws", [300, 2500])
    def test_many_of_a_long_row(self, sampler: str, draws: int) -> None:
        assert_same(torch.randn(1, 33_000), draws, sampler, seed=6)

    @samplers
    @pytest.mark.parametrize("shape", [(2, 5), (2, 2000), (2, 33_000), (0, 9), (0, 33_000), (2, 0)])
    @pytest.mark.parametrize("draws", [0, 3])
    def test_empty_results(self, sampler: str, shape: tuple[int, int], draws: int) -> None:
        code = SAMPLERS.index(sampler)
        index, log_prob, weight, lse = torch.ops.zoomkern.sample(
            torch.zeros(shape), None, torch.tensor(1), None, draws, code, 0, True, 0
        )
        assert index.shape == log_prob.shape == weight.shape == (shape[0], draws)
        assert lse.isfinite().all()
        if shape[1] == 0:
            assert not (index + 1).any()


SCHEDULES = 8


@samplers
@pytest.mark.parametrize("kind", ["equal", "wide", "ties"])
@pytest.mark.parametrize("items", [900, 3000, 33_000])
def test_no_bit_depends_on_the_schedule(sampler: str, items: int, kind: str, reseed: Callable[[int], None]) -> None:
    logits = ROWS[kind](items).expand(2, items).contiguous()
    first = draw(logits, 30, sampler, seed=7, estimator=None)
    lse = torch.zeros(2, 2, dtype=torch.float64)
    grad = torch.randn(2, 30)
    repeated = first.index[:, torch.randint(0, 30, (30,))]
    gradient = torch.ops.zoomkern.sample_backward(grad, logits - 20, None, repeated, lse)
    for schedule in range(SCHEDULES):
        reseed(schedule)
        again = draw(logits, 30, sampler, seed=7, estimator=None)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert torch.equal(gradient, torch.ops.zoomkern.sample_backward(grad, logits - 20, None, repeated, lse))


@pytest.mark.parametrize(("sampler", "estimator"), [(s, e) for s in SAMPLERS for e in ESTIMATORS[s]])
@pytest.mark.parametrize("items", [800, 4000, 33_000])
@pytest.mark.parametrize("kind", ["peaked", "ties"])
def test_weighing_a_given_draw_gives_what_drawing_gave(sampler: str, estimator: str, items: int, kind: str) -> None:
    logits = ROWS[kind](items).expand(2, items)
    rule: dict[str, Any] = {"sampler": sampler, "estimator": estimator}
    drawn = zoomkern.sample(logits, 25, seed=1, backend="cpu", **rule)
    index = torch.cat([drawn.index, torch.full((2, 3), -1)], 1)
    weighed = zoomkern.draw_weights(logits, index, backend="cpu", **rule)
    assert torch.equal(weighed.log_prob[:, :25], drawn.log_prob)
    assert torch.equal(weighed.weight[:, :25], drawn.weight)
    assert not weighed.weight[:, 25:].any()


class TestGradient:
    @pytest.mark.parametrize("items", [WARP_ROW, WARP_ROW + 1, PIECE - 1, PIECE + 1, 2 * PIECE + 5])
    @dtypes
    def test_of_repeated_and_padded_draws(self, items: int, dtype: torch.dtype) -> None:
        logits = torch.randn(3, items).to(dtype)
        index = torch.randint(0, items, (3, 50))
        index[:, 30:] = index[:, :20]
        index[2, 40:] = -1
        grad = torch.randn(3, 50)
        lse = logits.double().logsumexp(1)
        given = torch.ops.zoomkern.sample_backward(grad, logits, None, index, torch.stack([lse, 0 * lse], 1))
        live = torch.where(index < 0, 0.0, grad.double())
        wanted = torch.zeros(3, items, dtype=torch.float64).scatter_add_(1, index.clamp(min=0), live)
        wanted -= (logits.double() - lse[:, None]).exp() * live.sum(1, keepdim=True)
        # Rounded twice to the type of the logits; the exponential is right to 2^-22 in float32.
        precision = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-14
        assert bool(((given.double() - wanted).abs() <= 2 * precision * live.abs().sum(1, keepdim=True)).all())

    @pytest.mark.parametrize(("rows", "items", "draws"), [(300, 700, 300), (60, 1500, 300), (9, 20_000, 500)])
    def test_a_team_that_goes_from_piece_to_piece(self, rows: int, items: int, draws: int) -> None:
        """More pieces than teams, and repeated draws: what a piece has counted is not cleared before it was read."""
        grads = []
        upstream = torch.randn(rows, draws)
        scores = 3 * torch.randn(rows, items)
        for backend in ("cpu", "reference"):
            logits = scores.double().requires_grad_()
            drawn = zoomkern.sample(logits, draws, sampler="replacement", seed=4, backend=backend)
            grads.append(torch.autograd.grad((drawn.log_prob * upstream).sum(), logits)[0])
        assert bool(((grads[0] - grads[1]).abs() <= 1e-12 * upstream.abs().sum(1, keepdim=True)).all())


class TestFaults:
    @pytest.mark.parametrize("items", [300, 3000, 40_000])
    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    @samplers
    def test_the_first_wrong_value_is_named(self, items: int, value: float, sampler: str) -> None:
        logits = torch.randn(3, items)
        logits[2, [items // 2, items - 1]] = value
        with pytest.raises((RuntimeError, ValueError), match=f"got {value} in row 2, item {items // 2}"):
            torch.ops.zoomkern.sample(logits, None, torch.tensor(1), None, 3, SAMPLERS.index(sampler), 0, True, 0)
        logits[2, [items // 2, items - 1]] = 0
        assert_same(logits, 3, sampler, seed=1)

    @pytest.mark.parametrize("items", [300, 3000, 40_000])
    def test_too_few_items_are_counted(self, items: int) -> None:
        logits = torch.full((2, items), -torch.inf)
        logits[:, :4], logits[1, 2] = 0, -torch.inf
        for sampler in range(4):
            arguments = (logits, None, torch.tensor(1), None, 4, sampler, 0, False, 0)
            if SAMPLERS[sampler] == "replacement":
                torch.ops.zoomkern.sample(*arguments)
                continue
            with pytest.raises(RuntimeError, match="at least 4 items .* row 1 has 3"):
                torch.ops.zoomkern.sample(*arguments)

    @pytest.mark.parametrize("items", [300, 3000, 40_000])
    @pytest.mark.parametrize("bad", [-2, 1 << 40, 7])
    def test_an_index_that_names_nothing_is_refused(self, items: int, bad: int) -> None:
        logits = torch.zeros(2, items)
        logits[1, 7] = -torch.inf
        index = torch.tensor([[1, 2, -1], [3, bad, 4]])
        for sampler in range(4):
            with pytest.raises(RuntimeError, match=f"index .* got {bad} in row 1|index .* got 4 in row 1"):
                torch.ops.zoomkern.draw_weights(logits, None, index, sampler, 0)
        lse = torch.zeros(2, 2, dtype=torch.float64)
        with pytest.raises(RuntimeError, match=f"got {bad} in row 1"):
            torch.ops.zoomkern.sample_backward(torch.ones(2, 3), logits, None, index, lse)

    @pytest.mark.parametrize("count", [-1, 4])
    def test_a_number_of_draws_beyond_the_width_is_refused(self, count: int) -> None:
        for items in (300, 3000, 40_000):
            counts = torch.tensor([3, count])
            with pytest.raises(RuntimeError, match=f"counts .* got {count} in row 1"):
                torch.ops.zoomkern.sample(torch.zeros(2, items), None, torch.tensor(1), counts, 3, 0, 0, False, 0)


def test_the_cases_are_more_than_a_thousand() -> None:
    """A case is a row of logits whose draw was compared."""
    sizes = len(SAMPLERS) * len(DTYPES) * (5 * len(SHORT) + 2 * len(MIDDLE) + 2 * len(BORDER))
    assert sizes + len(SAMPLERS) * 3 * len(ROWS) * 2 * 2 >= 1000

"""The Triton kernels draw what the CPU library and the reference draw, bit for bit."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="Triton is not installed")

import triton
import triton.language as tl

from zoomkern.ops import backends
from zoomkern.reference import exact as reference_exact
from zoomkern.reference import masses as reference_masses
from zoomkern.reference import random as reference_random
from zoomkern.reference import sampling as reference
from zoomkern.reference import weights as reference_weights
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.triton import arguments, exact, faults, masses, sampling, statistics, weights
from zoomkern.triton import random as philox

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SIZES = (1, 2, 3, 5, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 127, 129)
CASES_PER_TEST = 63
NAN, INF = float("nan"), float("inf")

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
rules = pytest.mark.parametrize(("sampler", "estimator"), [(s, e) for s in SAMPLERS for e in ESTIMATORS[s]])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


class Case:
    """One call of ``sample``, for the kernels and for who judges them."""

    def __init__(self, logits: Tensor, draws: int, sampler: str, estimator: str | None = None, **options: Any) -> None:
        self.logits, self.draws = logits, draws
        self.sampler, self.estimator = sampler, estimator or ESTIMATORS[sampler][0]
        self.mask: Tensor | None = options.get("mask")
        self.counts: Tensor | None = options.get("counts")
        self.seed = torch.as_tensor(options.get("seed", 1), dtype=torch.int64)
        self.pad: bool = options.get("pad", True)
        self.width: int = options.get("width", 0)
        self.chunk: int = options.get("chunk", 64)

    def codes(self) -> tuple[int, int]:
        return SAMPLERS.index(self.sampler), ESTIMATORS[self.sampler].index(self.estimator)

    def given(self, device: torch.device) -> list[Tensor]:
        """index, log_prob, weight and lse by the kernels."""
        logits, mask, seed, counts = on(device, self.logits, self.mask, self.seed, self.counts)
        settings = (*self.codes(), self.pad, self.width, self.chunk)
        return on(torch.device("cpu"), *sampling.sample(logits, mask, seed, counts, self.draws, *settings))

    def wanted(self) -> list[Tensor]:
        """The same by the CPU library where it was built, else by the reference."""
        draw = (self.logits, self.mask, self.seed, self.counts, self.draws)
        if backends.explain()["cpu"][0]:
            return list(torch.ops.zoomkern.sample(*draw, *self.codes(), self.pad, self.width))
        return [*reference.sample(*draw, self.sampler, self.estimator, self.pad, self.width), self.lse()]

    def lse(self) -> Tensor:
        scores = self.logits.double()
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -INF)
        top = scores.amax(1) if scores.shape[1] else scores.new_full((len(scores),), -INF)
        log_sum = (scores - top[:, None]).exp().sum(1).log()
        return torch.stack((top, log_sum), 1).where((top > -INF)[:, None], 0.0)

    def gradient(self, index: Tensor, grad: Tensor) -> Tensor:
        """The derivative of ``<grad, log_prob>`` by autograd through the reference, float64."""
        leaf = self.logits.double().requires_grad_()
        log_prob, _ = reference.draw_weights(leaf, self.mask, index, "topk", "renormalised")
        return torch.autograd.grad((log_prob * grad).sum(), leaf)[0]


def on(device: torch.device, *tensors: Any) -> list[Any]:
    return [t.to(device) if isinstance(t, Tensor) else t for t in tensors]


def assert_close(given: list[Tensor], wanted: list[Tensor]) -> None:
    """log_prob, weight and lse of the same draw.

    The kernels add in float64, right to 1e-14. The CPU library adds exponentials of logits up to float32 in float32,
    which moves its lse by up to 1e-6; in float64 both are right to 1e-12. Results are rounded, by 2^-24 or 2^-53 of
    themselves on either side. A weight is off by as much as its log_prob, absolutely, then by its own rounding and, for
    Murthy, by two quadratures cut at different ends, each right to 2e-6 in the rule for float32 and 1e-12 for float64.
    """
    _, log_prob, weight, lse = given
    single = wanted[2].dtype == torch.float32
    last = torch.finfo(wanted[2].dtype).eps
    assert log_prob.dtype == wanted[1].dtype == weight.dtype == wanted[2].dtype
    assert lse.dtype == torch.float64
    expected = wanted[1].double()
    allowed = (1e-6 if single else 1e-12) + last * expected.abs()
    assert bool(((log_prob - expected).abs() <= allowed).all())
    allowed += last + (4e-6 if single else 2e-12)
    expected = wanted[2].double()
    assert bool(((weight - expected).abs() <= torch.finfo(torch.float32).tiny + allowed * expected).all())
    assert torch.equal(lse[:, 0], wanted[3][:, 0])
    assert bool(((lse - wanted[3]).abs() <= (1e-6 if single else 1e-12)).all())


def assert_gradient(case: Case, index: Tensor, lse: Tensor, device: torch.device) -> None:
    """The kernels add in float64 and round once; float16 has subnormals, 2^-24 apart."""
    grad = torch.randn(index.shape, dtype=torch.float64)
    moved = on(device, grad, case.logits, case.mask, index, lse)
    given = sampling.sample_backward(*moved, chunk=case.chunk).cpu()
    wanted = case.gradient(index, grad)
    assert given.dtype == case.logits.dtype
    last, tiny = torch.finfo(given.dtype).eps, 2.0**-24 if given.dtype == torch.float16 else 1e-37
    allowed = last * wanted.abs() + 1e-12 * grad.abs().sum(1, keepdim=True) + tiny
    assert bool(((given.double() - wanted).abs() <= allowed).all())


def assert_same(case: Case, device: torch.device, gradient: bool = False) -> list[Tensor]:
    given, wanted = case.given(device), case.wanted()
    assert torch.equal(given[0], wanted[0])
    assert_close(given, wanted)
    if gradient:
        assert_gradient(case, given[0], given[3], device)
    return given


def random_case(pick: random.Random, sampler: str, dtype: torch.dtype) -> Case:
    """Logits of any spread, with ties, masks, -inf, seeds, counts and grids."""
    generator = torch.Generator().manual_seed(pick.getrandbits(62))
    rows, items = pick.choice((1, 1, 1, 2)), pick.choice(SIZES)
    chunk = 16 if items < 34 else 64
    logits = torch.randn(rows, items, generator=generator, dtype=torch.float64)
    logits = logits * pick.choice((0.0, 0.1, 1.0, 1.0, 5.0, 40.0, 300.0)) + pick.choice((0.0, 0.0, 3.0, -200.0))
    if pick.random() < 0.25:
        logits = logits.round()  # ties
    options: dict[str, Any] = {"chunk": chunk, "pad": True}
    if pick.random() < 0.25:
        logits = logits.masked_fill(torch.rand(rows, items, generator=generator) < 0.3, -INF)
    if pick.random() < 0.1:
        logits[:, ::3] = -1e30 if dtype != torch.float16 else -6e4  # next to these a key has no digits left
    if pick.random() < 0.4:
        options["mask"] = torch.rand(rows, items, generator=generator) < pick.choice((0.1, 0.6, 0.95))
    draws = pick.choice((1, 2, 3, 4, 8, 17)) if pick.random() < 0.8 else items
    if pick.random() < 0.25:
        options["counts"] = torch.randint(0, draws + 1, (rows,), generator=generator)
    seed = pick.getrandbits(64) - (1 << 63)
    options["seed"] = seed if pick.random() < 0.5 else torch.tensor([seed ^ (row << 20) for row in range(rows)])
    # The interpreter takes a third of a second for Murthy's quadrature.
    estimator = "desraj" if sampler == "gumbel" and pick.random() < 0.95 else None
    options["width"] = pick.choice([w for w in (0, 1, 2, 3, 4, 7, 16) if w == 0 or items % w == 0])
    logits = logits.to(dtype)
    if pick.random() < 0.2:
        logits = torch.cat([logits, logits], 1)[:, items:]  # not contiguous
    return Case(logits, draws, sampler, estimator, **options)


@samplers
@dtypes
def test_random_cases(sampler: str, dtype: torch.dtype, device: torch.device) -> None:
    pick = random.Random(f"{sampler} {dtype}")
    for number in range(CASES_PER_TEST):
        case = random_case(pick, sampler, dtype)
        try:
            assert_same(case, device, gradient=number % 4 == 0)
        except AssertionError as error:
            settings = {k: list(v.shape) if isinstance(v, Tensor) and v.ndim else v for k, v in vars(case).items()}
            raise AssertionError(f"case {number}, {settings}: {error}") from error


def test_random_cases_are_more_than_a_thousand() -> None:
    assert CASES_PER_TEST * len(SAMPLERS) * len(DTYPES) >= 1000


@samplers
@pytest.mark.parametrize("items", [4095, 4096, 4097, 9001])
def test_around_the_chunk_of_a_program(sampler: str, items: int, device: torch.device) -> None:
    estimator = "desraj" if sampler == "gumbel" else None
    case = Case(2 * torch.randn(1, items), 33, sampler, estimator, seed=items, chunk=sampling.CHUNK)
    assert_same(case, device, gradient=True)


@samplers
@pytest.mark.parametrize("missing", [0, 1, 40])
def test_draws_close_to_all_items(sampler: str, missing: int, device: torch.device) -> None:
    estimator = "desraj" if sampler == "gumbel" else None
    assert_same(Case(3 * torch.randn(1, 150), 150 - missing, sampler, estimator, seed=8), device, gradient=True)


@samplers
def test_the_size_of_a_chunk_changes_nothing(sampler: str, device: torch.device) -> None:
    logits, estimator = torch.randn(2, 300), "desraj" if sampler == "gumbel" else None
    drawn = [Case(logits, 5, sampler, estimator, width=20, chunk=chunk).given(device)[0] for chunk in (16, 128, 4096)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("equal", [(0.0, -0.0), (-1e30, -1e30), (1.5, 1.5)])
@pytest.mark.parametrize("sampler", ["gumbel", "topk"])
def test_equal_keys_go_by_item(equal: tuple[float, float], sampler: str, device: torch.device) -> None:
    """Logits of -1e30 swallow the noise, so that their keys tie."""
    logits = torch.tensor(equal).repeat(40)[None]
    if equal[0] == -1e30:
        logits[0, 7] = 0.0
    drawn = assert_same(Case(logits, 12, sampler, "desraj" if sampler == "gumbel" else None, chunk=16), device)[0]
    if sampler == "topk" and equal[0] > -1e30:
        assert drawn[0].tolist() == list(range(12))


def test_log_prob_is_right_to_the_last_place(device: torch.device) -> None:
    for offset in (0.0, 2.0**16, -(2.0**16)):  # a common offset cancels before anything is rounded
        logits = torch.randn(2, 200).mul(64).round() / 64 + offset
        _, log_prob, _, _ = Case(logits, 9, "topk").given(device)
        _, wanted, _ = reference.sample(logits, None, torch.tensor(1), None, 9, "topk", "renormalised", False, 0)
        assert bool(((log_prob - wanted).abs() <= torch.finfo(torch.float32).eps * wanted.abs() + 1e-12).all())


class TestMasses:
    MASS = torch.tensor([[0, 1, 0, 2, 5, 0], [3, 3, 0, 0, 1, 1], [0, 0, 9, 0, 0, 1]])

    def test_replacement_finds_the_item_that_covers_a_point(self, device: torch.device) -> None:
        """Of so few masses many a point falls on an edge."""
        seeds = torch.tensor([4, 5, 6])
        found = masses.draw_replacement(*on(device, self.MASS, seeds), 40).cpu()
        for row, mass in enumerate(self.MASS.tolist()):
            covered = [item for item, count in enumerate(mass) for _ in range(count)]
            bits = (reference_random.words(seeds[row], 40, 0, stream, torch.device("cpu")) for stream in (4, 5))
            point = reference_random.multiply_high(*bits, torch.tensor(len(covered)))
            assert found[row].tolist() == [covered[p] for p in point.tolist()]

    @pytest.mark.parametrize("draws", [(1, 1, 1), (3, 2, 2), (2, 4, 1), (0, 3, 0)])
    def test_a_batch_is_cut_as_its_rows_are(self, draws: tuple[int, ...], device: torch.device) -> None:
        given = [part.cpu() for part in masses.cut(*on(device, self.MASS, torch.tensor(draws)), 4)]
        for row, count in enumerate(draws):
            wanted = reference_masses.cut(self.MASS[row], count)
            assert tuple(int(part[row]) for part in given[:4]) == tuple(wanted)
            certain = (self.MASS[row] >= wanted.tau).nonzero().flatten().tolist()
            assert sorted(given[4][row, : wanted.certain].tolist()) == certain


class TestWeights:
    @rules
    @dtypes
    def test_weighing_a_given_draw_gives_what_drawing_gave(
        self, sampler: str, estimator: str, dtype: torch.dtype, device: torch.device
    ) -> None:
        case = Case((2 * torch.randn(2, 70)).to(dtype), 11, sampler, estimator)
        index, *drawn = case.given(device)
        weighed = sampling.draw_weights(*on(device, case.logits, None, index), *case.codes(), chunk=case.chunk)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(drawn, weighed, strict=True))

    @pytest.mark.parametrize("scale", [0.0, 1.0, 6.0, 30.0])
    @pytest.mark.parametrize("draws", [1, 2, 10, 60])
    def test_murthy_to_the_accuracy_of_float64(
        self, scale: float, draws: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(weights, "BLOCK", 32)  # more than one tile of draws
        logits = scale * torch.randn(1, 90, dtype=torch.float64)
        given = assert_same(Case(logits, draws, "gumbel"), device)
        assert float(given[2].sum()) == pytest.approx(1.0, abs=1e-12)

    @pytest.mark.parametrize("left", [1e-3, 1e-12, 1e-40])
    @pytest.mark.parametrize("estimator", ESTIMATORS["gumbel"])
    def test_what_is_left_does_not_cancel(self, left: float, estimator: str, device: torch.device) -> None:
        """The last weight compares the last item with what was not drawn, however small both are beside 1."""
        tail = torch.tensor([left], dtype=torch.float64).log()
        logits = torch.cat([torch.tensor([2.0, 1.0], dtype=torch.float64), tail, tail])[None]
        index = torch.tensor([[0, 1, 2]])
        codes = (SAMPLERS.index("gumbel"), ESTIMATORS["gumbel"].index(estimator))
        log_prob, weight, _ = (t.cpu() for t in sampling.draw_weights(*on(device, logits, None, index), *codes))
        rest = (tail - logits[0].logsumexp(0)).exp()[0]
        prob = log_prob.exp()[0]
        wanted = reference_weights.desraj(prob, rest)
        if estimator == "murthy":
            wanted = reference_weights.murthy(prob, rest, torch.float64)
        assert torch.allclose(weight[0], wanted, rtol=2e-12, atol=0)


class TestGradient:
    def test_repeated_items_add_up(self, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "TILE", 4)
        logits = torch.randn(2, 6, dtype=torch.float64)
        case = Case(logits, 11, "replacement", mask=torch.tensor([True, True, False, True, True, True]).repeat(2, 1))
        index = torch.tensor([[0, 1, 0, 0, 5, 1, 0, 3, 3, 5, 0], [4, 4, 4, 4, 4, 4, 4, 4, 4, -1, -1]])
        assert_gradient(case, index, case.lse(), device)

    def test_is_the_same_every_time(self, device: torch.device) -> None:
        arguments = on(
            device, torch.randn(1, 40), torch.randn(1, 5), None, torch.randint(0, 5, (1, 40)), torch.zeros(1, 2)
        )
        arguments[-1] = arguments[-1].double()
        first, second = (sampling.sample_backward(*arguments) for _ in range(2))
        assert torch.equal(first, second)

    def test_a_masked_item_gets_none(self, device: torch.device) -> None:
        mask = torch.tensor([[True, False, True]])
        lse = torch.tensor([[0.0, math.log(2)]], dtype=torch.float64)
        moved = on(device, torch.ones(1, 1), torch.zeros(1, 3), mask, torch.tensor([[0]]), lse)
        assert sampling.sample_backward(*moved).tolist() == [[0.5, 0.0, -0.5]]


class TestEdges:
    @rules
    @pytest.mark.parametrize(("rows", "items", "draws"), [(0, 5, 2), (2, 0, 2), (0, 0, 3), (2, 5, 0), (2, 3, 7)])
    def test_nothing_to_draw_and_more_draws_than_items(
        self, rows: int, items: int, draws: int, sampler: str, estimator: str, device: torch.device
    ) -> None:
        case = Case(torch.randn(rows, items), draws, sampler, estimator)
        index = assert_same(case, device)[0]
        assert index.shape == (rows, draws)
        gradient = sampling.sample_backward(
            *on(device, torch.ones(rows, draws), case.logits, None, index, torch.zeros(rows, 2).double())
        )
        assert gradient.shape == (rows, items)

    @pytest.mark.parametrize("sampler", ["gumbel", "topk"])
    @pytest.mark.parametrize("chunk", [4, 16])
    def test_a_masked_item_is_never_drawn_where_float64_overflows(
        self, sampler: str, chunk: int, device: torch.device
    ) -> None:
        logits = torch.tensor([[1.7e308, 0.0, -1.7e308, -1.7e308, 0.0, 0.0]], dtype=torch.float64)
        mask = torch.tensor([[True, False, True, True, False, False]])
        case = Case(logits, 3, sampler, "desraj" if sampler == "gumbel" else None, mask=mask, chunk=chunk)
        assert case.given(device)[0].tolist() == [[0, 2, 3]] == case.wanted()[0].tolist()

    @samplers
    @pytest.mark.parametrize("pad", [False, True])
    def test_a_count_outside_its_range_is_told_and_draws_nothing(
        self, sampler: str, pad: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logits, estimator = torch.randn(3, 6), "desraj" if sampler == "gumbel" else None
        case = Case(logits, 3, sampler, estimator, counts=torch.tensor([-4, 2, 1 << 40]), pad=pad)
        with monkeypatch.context() as patch:
            patch.setattr(faults, "check_if_asked", lambda device: None)
            given = case.given(device)
        with pytest.raises(
            RuntimeError, match="counts must lie between 0 and num_samples; got (-4 in row 0|1099.* in row 2)"
        ):
            faults.check(device)
        assert given[0][[0, 2]].tolist() == [[-1] * 3] * 2
        valid = Case(logits, 3, sampler, estimator, counts=torch.tensor([0, 2, 0]), pad=pad).given(device)
        assert all(torch.equal(a, b) for a, b in zip(given, valid, strict=True))

    @pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement", "topk"])
    @pytest.mark.parametrize(
        ("index", "kept"),
        [([1, 6, 2], 1), ([1, -2, 2], 1), ([1, 2, 4], 2), ([1, -1, 2], 1), ([-1, -1, 0], 0), ([1 << 40, 1, 2], 0)],
        ids=["outside", "below", "masked", "behind padding", "behind all padding", "far outside"],
    )
    def test_an_index_of_no_item_is_told_and_what_follows_is_padding(
        self, index: list[int], kept: int, sampler: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logits = torch.randn(2, 6)
        logits[0, 4] = -INF
        codes = Case(logits, 3, sampler, "desraj" if sampler == "gumbel" else None).codes()
        whole = torch.tensor([[0, 5, 3]])
        with monkeypatch.context() as patch:
            patch.setattr(faults, "check_if_asked", lambda device: None)
            given = sampling.draw_weights(*on(device, logits, None, torch.cat([torch.tensor([index]), whole])), *codes)
        with pytest.raises(
            RuntimeError, match=f"index must be -1 or an item.*got {index[kept + (index[kept] == -1)]} in row 0|got 0"
        ):
            faults.check(device)
        padded = torch.tensor([index[:kept] + [-1] * (3 - kept)])
        wanted = sampling.draw_weights(*on(device, logits, None, torch.cat([padded, whole])), *codes)
        assert all(torch.equal(a, b) for a, b in zip(given, wanted, strict=True))

    def test_a_gradient_of_no_item_is_told(self, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        logits = torch.tensor([[0.0, 1.0, -INF]])
        index, grad, lse = torch.tensor([[0, 2]]), torch.ones(1, 2), Case(logits, 1, "gumbel").lse()
        with pytest.raises(RuntimeError, match="index must be -1 or an item.*got 2 in row 0"):
            sampling.sample_backward(*on(device, grad, logits, None, index, lse)), faults.check(device)
        with monkeypatch.context() as patch:
            patch.setattr(faults, "check_if_asked", lambda device: None)
            given = sampling.sample_backward(*on(device, grad, logits, None, index, lse))
        faults.notes(device).zero_()
        wanted = sampling.sample_backward(*on(device, grad, logits, None, torch.tensor([[0, -1]]), lse))
        assert torch.equal(given, wanted)

    def test_faults_first_met_in_inference_mode_are_told_later_too(self, device: torch.device) -> None:
        faults._NOTES.pop(device, None)
        case = Case(torch.tensor([[0.0, NAN]]), 1, "topk")
        for mode in (True, False, False):
            with torch.inference_mode(mode), pytest.raises(RuntimeError, match="got nan in row 0, item 1"):
                case.given(device), faults.check(device)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"logits": torch.zeros(6)}, "logits must be"),
            ({"logits": torch.zeros(2, 6).long()}, "floating point"),
            ({"mask": torch.ones(2, 6)}, "mask must be bool"),
            ({"mask": torch.ones(6, dtype=torch.bool)}, "mask must have the shape"),
            ({"mask": torch.ones(2, 6, dtype=torch.bool, device="meta")}, "on the device of logits"),
            ({"seed": torch.zeros(3, dtype=torch.int64)}, "seed must be a scalar"),
            ({"seed": torch.zeros(())}, "seed must be int64"),
            ({"counts": torch.ones(2)}, "counts must be int64"),
            ({"counts": torch.ones(3, dtype=torch.int64)}, "counts must be .B"),
            ({"num_samples": -1}, "num_samples"),
            ({"sampler": 9}, "unknown sampler"),
            ({"sampler": 1, "estimator": 1}, "unknown estimator"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_what_could_read_garbage_is_refused(self, change: dict[str, Any], words: str) -> None:
        call = {"logits": torch.zeros(2, 6), "mask": None, "seed": torch.tensor(3), "counts": None, "num_samples": 2}
        with pytest.raises(RuntimeError, match=words):
            sampling.sample(**{**call, "sampler": 0, "estimator": 0, "pad": True, "grid_width": 0, **change})

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"index": torch.zeros(2, 2).int()}, "index must be int64"),
            ({"index": torch.zeros(2).long()}, "index must be .B"),
            ({"lse": torch.zeros(2, 2)}, "lse must be float64"),
            ({"lse": torch.zeros(2).double()}, "lse must be .B, 2"),
            ({"grad_log_prob": torch.ones(2, 1)}, "grad_log_prob"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_gradient_of_what_was_not_drawn_is_refused(self, change: dict[str, Any], words: str) -> None:
        call = {"logits": torch.zeros(2, 6), "mask": None, "index": torch.zeros(2, 2).long()}
        call |= {"grad_log_prob": torch.ones(2, 2), "lse": torch.zeros(2, 2).double()}
        with pytest.raises(RuntimeError, match=words):
            sampling.sample_backward(**{**call, **change})


class TestFaults:
    @pytest.fixture(autouse=True)
    def _clean(self, device: torch.device) -> Iterator[None]:
        faults.notes(device).zero_()
        yield
        faults.notes(device).zero_()

    @rules
    @pytest.mark.parametrize("value", [NAN, INF])
    @pytest.mark.parametrize("pad", [False, True])
    def test_a_wrong_logit_is_named(
        self, value: float, pad: bool, sampler: str, estimator: str, device: torch.device
    ) -> None:
        logits = torch.randn(3, 20)
        logits[1, 7] = logits[1, 18] = value
        case = Case(logits, 2, sampler, estimator, pad=pad, chunk=16)
        with pytest.raises(RuntimeError, match=f"logits must be finite.*got {value} in row 1, item 7"):
            case.given(device), faults.check(device)

    @samplers
    def test_too_few_items_are_counted(self, sampler: str, device: torch.device) -> None:
        logits = torch.randn(3, 20)
        logits[2, 1 if sampler != "replacement" else 0 :] = -INF
        case = Case(logits, 2, sampler, "desraj" if sampler == "gumbel" else None, pad=False, chunk=16)
        needed, has = (1, 0) if sampler == "replacement" else (2, 1)
        with pytest.raises(RuntimeError, match=f"at least {needed} items .* row 2 has {has}"):
            case.given(device), faults.check(device)

    @rules
    def test_a_row_at_fault_draws_nothing_and_the_others_what_they_would(
        self, sampler: str, estimator: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(faults, "check_if_asked", lambda device: None)
        logits = torch.randn(4, 20)
        whole = Case(logits, 3, sampler, estimator).given(device)
        logits[0, 3], logits[2, 5], logits[3] = NAN, INF, -INF
        given = Case(logits, 3, sampler, estimator, pad=False).given(device)
        assert given[0][[0, 2, 3]].tolist() == [[-1] * 3] * 3
        assert all(bool((part[[0, 2, 3]] == 0).all()) for part in given[1:3])
        assert all(torch.equal(part[1], known[1]) for part, known in zip(given, whole, strict=True))
        assert all(bool(part.isfinite().all()) for part in given)
        gradient = sampling.sample_backward(*on(device, torch.ones(4, 3), logits, None, given[0], given[3]))
        assert bool(gradient.isfinite().all())

    def test_a_fault_waits_until_it_is_asked_for(self, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(faults, "check_if_asked", lambda device: None)
            Case(torch.tensor([[0.0, NAN]]), 1, "topk").given(device)
            Case(torch.tensor([[INF, 0.0]]), 1, "topk").given(device)  # the first is kept
        with pytest.raises(RuntimeError, match="got nan in row 0, item 1"):
            faults.check(str(device))
        faults.check(device)

    @pytest.mark.parametrize(("variable", "asked"), [("1", True), ("0", False), (None, False)])
    def test_a_gpu_is_asked_at_once_only_on_demand(
        self, variable: str | None, asked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[torch.device] = []
        monkeypatch.setattr(faults, "check", seen.append)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.delenv("ZOOMKERN_CHECK", raising=False)
        if variable is not None:
            monkeypatch.setenv("ZOOMKERN_CHECK", variable)
        faults.check_if_asked(torch.device("cuda", 0))
        assert bool(seen) == asked

    @pytest.mark.parametrize("capturing", [False, True])
    def test_a_later_call_on_a_gpu_raises_what_was_noted(
        self, capturing: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpu, seen = torch.device("cuda", 0), []
        monkeypatch.setattr(faults, "check", seen.append)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
        monkeypatch.delenv("ZOOMKERN_CHECK", raising=False)
        monkeypatch.setitem(faults._NOTES, gpu, torch.zeros(4, dtype=torch.int64))
        faults.check_if_asked(gpu)
        assert not seen
        faults._NOTES[gpu][0] = faults.NAN.value
        faults.check_if_asked(gpu)
        assert bool(seen) != capturing


class _Waiting(TorchDispatchMode):
    """Refuses what would wait for a device, or copy to one."""

    WORDS = ("_local_scalar_dense", "nonzero", "masked_select", "item", "lift_fresh", "equal.default", "unique")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(word in str(function) for word in self.WORDS), f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


@rules
def test_nothing_waits_for_the_device(
    sampler: str, estimator: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "check_if_asked", lambda device: None)
    case = Case(torch.randn(2, 30), 4, sampler, estimator)
    logits, mask, seed, counts = on(
        device, case.logits, torch.ones(2, 30) > 0, torch.tensor([1, 2]), torch.tensor([4, 3])
    )
    grad = torch.ones(2, 4, device=device)
    faults.notes(device)
    with _Waiting():
        index, _, _, lse = sampling.sample(logits, mask, seed, counts, 4, *case.codes(), False, 10)
        sampling.draw_weights(logits, mask, index, *case.codes())
        sampling.sample_backward(grad, logits, mask, index, lse)


def test_every_kernel_is_launched_without_fusion(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter fuses nothing: only the launch tells what a GPU would do."""
    kind, fused = type(statistics._scan), {}
    run = kind.run

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        fused[self.__name__] = kwargs.get("enable_fp_fusion")
        return run(self, *args, **kwargs)

    monkeypatch.setattr(kind, "run", spy)
    for sampler in SAMPLERS:
        case = Case(torch.randn(1, 9), 2, sampler)
        index, _, _, lse = case.given(device)
        assert_gradient(case, index, lse, device)
    assert set(fused.values()) == {False}
    assert len(fused) == 10


@triton.jit
def _exact_kernel(x, high, low, exps, logs, variates, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(exps + i, exact.exp(-tl.load(x + i)))
    tl.store(logs + i, exact.log(tl.load(x + i)))
    words = tl.load(high + i).to(tl.uint32), tl.load(low + i).to(tl.uint32)
    tl.store(variates + i, exact.log_exponential(words[0], words[1]))


@triton.jit
def _words_kernel(seed, out, first, row, stream, BLOCK: tl.constexpr):
    words = philox.words(tl.load(seed), first, row, stream, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), words.to(tl.int64))


class TestExact:
    def test_exp_log_and_variates_have_the_bits_of_the_reference(self, device: torch.device) -> None:
        count, edge = 1024, [0, 1, 2, 2**22 - 1, 2**22, 2**22 + 1, 2**31, 2**32 - 2, 2**32 - 1]
        x = torch.rand(count, dtype=torch.float64) * torch.logspace(-300, 2.9, count, dtype=torch.float64)
        high, low = torch.randint(0, 2**32, (2, count))
        high[: len(edge)], low[9 : 9 + len(edge)] = torch.tensor(edge), torch.tensor(edge)
        exps, logs, variates = torch.zeros(3, count, dtype=torch.float64, device=device)
        moved = on(device, x, high, low)
        _exact_kernel[(1,)](*moved, exps, logs, variates, BLOCK=count, enable_fp_fusion=False)
        assert torch.equal(exps.cpu(), reference_exact.exp(-x))
        assert torch.equal(logs.cpu(), reference_exact.log(x))
        assert torch.equal(variates.cpu(), reference_exact.log_exponential(high, low))

    @pytest.mark.parametrize("first", [0, 64, 2**34 - 8])
    @pytest.mark.parametrize("seed", [0, -1, 0x1234567 << 37])
    def test_words_are_those_of_the_reference(self, first: int, seed: int, device: torch.device) -> None:
        out = torch.zeros(16, dtype=torch.int64, device=device)
        _words_kernel[(1,)](torch.tensor(seed, device=device), out, first, 3, 5, BLOCK=16)
        group = torch.arange(4) + first // 4
        counter = (group & 0xFFFFFFFF, group >> 32, torch.full((4,), 3), torch.full((4,), 5))
        wanted = torch.stack(reference_random.philox(counter, torch.tensor(seed)), -1).flatten()
        assert torch.equal(out.cpu(), wanted)


def test_constants_are_those_of_the_reference() -> None:
    for name in ("EXP", "LOG", "LOG1P"):
        given, wanted = getattr(exact, name).value, getattr(reference_exact, name)
        assert list(given) == wanted
        assert getattr(exact, f"{name}_DEGREE").value == len(wanted) - 1
    for name in ("LOG2E", "LN2", "LN2_HIGH", "LN2_LOW", "SQRT_HALF_BITS", "EXP_MIN"):
        assert getattr(exact, name).value == getattr(reference_exact, name)
    assert (philox.MULTIPLIER0.value, philox.MULTIPLIER1.value) == reference_random.MULTIPLIERS
    assert (philox.KEY_STEP0.value, philox.KEY_STEP1.value) == reference_random.KEY_STEPS
    for name in ("ROUNDS", "RACE_STREAM", "THRESHOLD_STREAM", "REPLACEMENT_STREAM"):
        assert getattr(philox, name).value == getattr(reference_random, name)
    assert (masses.SUM_BITS, masses.MOST_BITS) == (reference_masses.SUM_BITS, reference_masses.MOST_BITS)
    assert {kind: rule[:3] for kind, rule in weights.RULES.items()} == reference_weights.RULES
    assert weights.TINY == reference_weights.TINY
    codes = (arguments.GUMBEL, arguments.THRESHOLD, arguments.REPLACEMENT, arguments.TOPK)
    assert [SAMPLERS[code] for code in codes] == ["gumbel", "threshold", "replacement", "topk"]
    assert ESTIMATORS["gumbel"][arguments.DESRAJ] == "desraj"
    assert ESTIMATORS["gumbel"][arguments.MURTHY] == "murthy"

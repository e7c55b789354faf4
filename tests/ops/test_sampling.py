"""The compiled sampling op draws what the reference draws, bit for bit, whatever the threads and the SIMD level."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern.ops import backends
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.typing import Sample

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SIZES = (1, 2, 3, 5, 7, 13, 31, 64, 97, 251, 255, 256, 257, 509, 1009, 2048, 4093)
CHUNK_SIZES = (16383, 16384, 16385, 40009)
CASES_PER_TEST = 63

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
pytestmark = pytest.mark.usefixtures("native", "_restored")


@pytest.fixture
def _restored() -> Iterator[None]:
    """Threads and SIMD level as they were."""
    threads = torch.get_num_threads()
    level = torch.ops.zoomkern.simd_level() if backends.explain()["cpu"][0] else None
    yield
    torch.set_num_threads(threads)
    if level:
        torch.ops.zoomkern.set_simd_level(level)


def levels() -> list[str]:
    return str(torch.ops.zoomkern.cpu_features()).split()


def draw(case: dict[str, Any], backend: str) -> Sample:
    return zoomkern.sample(**case, backend=backend)


def assert_close(given: Sample, wanted: Sample) -> None:
    """log_prob and weight of the same draw, computed twice.

    log_prob: for logits up to float32 the compiled code adds exponentials in float32, which moves the normaliser by up
    to 1e-6 of itself, and the result is rounded to float32, by 2^-24 of itself on either side; in float64 the sums run
    in another order. weight: the compiled code starts from the log_prob that it returns, so a probability is off by as
    much as its log_prob, absolutely; then come the rounding of the weight and, for Murthy, two quadratures cut at
    different ends, each right to 2e-6 in the rule for float32 and to 1e-12 in the one for float64.
    """
    assert given.log_prob.dtype == wanted.log_prob.dtype == given.weight.dtype == wanted.weight.dtype
    single = wanted.weight.dtype == torch.float32
    last = torch.finfo(wanted.weight.dtype).eps
    expected, other = wanted.log_prob.double(), wanted.weight.double()
    allowed = (1e-6 if single else 1e-12) + last * expected.abs()
    assert bool(((given.log_prob - expected).abs() <= allowed).all())
    allowed += last + (4e-6 if single else 2e-12)
    assert bool(((given.weight - other).abs() <= torch.finfo(torch.float32).tiny + allowed * other).all())


def assert_same_draw_everywhere(case: dict[str, Any]) -> None:
    wanted = draw(case, "reference")
    for level in levels():
        torch.ops.zoomkern.set_simd_level(level)
        threaded = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given = draw(case, "cpu")
            assert torch.equal(given.index, wanted.index), f"{level}, {threads} threads"
            threaded.append(given)
        assert torch.equal(threaded[0].log_prob, threaded[1].log_prob), level
        assert torch.equal(threaded[0].weight, threaded[1].weight), level
        assert_close(threaded[0], wanted)


def random_case(pick: random.Random, sampler: str, dtype: torch.dtype) -> dict[str, Any]:
    """Logits of any spread, with ties, masks, -inf, seeds, counts, grids and temperatures."""
    generator = torch.Generator().manual_seed(pick.getrandbits(62))
    rows = pick.choice((1, 1, 2))
    items = pick.choice(CHUNK_SIZES) if pick.random() < 0.06 else pick.choice(SIZES)
    logits = torch.randn(rows, items, generator=generator, dtype=torch.float64)
    logits = logits * pick.choice((0.0, 0.1, 1.0, 1.0, 5.0, 40.0, 300.0)) + pick.choice((0.0, 0.0, 3.0, -200.0))
    if pick.random() < 0.25:
        logits = logits.round()  # ties
    case: dict[str, Any] = {"sampler": sampler}
    if pick.random() < 0.25:
        logits = logits.masked_fill(torch.rand(rows, items, generator=generator) < 0.3, -torch.inf)
    if pick.random() < 0.4:
        case["mask"] = torch.rand(rows, items, generator=generator) < pick.choice((0.1, 0.6, 0.95))
    if pick.random() < 0.2:
        case["temperature"] = pick.choice((0.3, 2.5))
    case["on_short"] = "pad"
    draws = pick.choice((1, 2, 3, 8, 17)) if pick.random() < 0.8 else pick.randint(1, min(items, 120))
    if pick.random() < 0.25:
        case["num_samples"] = torch.randint(0, draws + 1, (rows,), generator=generator)
        case["max_samples"] = draws
    else:
        case["num_samples"] = draws
    seed = pick.getrandbits(64) - (1 << 63)
    case["seed"] = seed if pick.random() < 0.5 else torch.tensor([seed ^ (row << 20) for row in range(rows)])
    # Murthy's quadrature is what makes the reference slow.
    case["estimator"] = "desraj" if sampler == "gumbel" and pick.random() < 0.85 else None
    logits = logits.to(dtype)
    width = pick.choice([w for w in (1, 2, 3, 4, 7, 16, 113, 128) if items % w == 0])
    if pick.random() < 0.5:
        logits = logits.view(rows, items // width, width)
        if "mask" in case:
            case["mask"] = case["mask"].view(logits.shape)
    elif pick.random() < 0.3:
        logits = torch.cat([logits, logits], 1)[:, items:]  # not contiguous
    return {"logits": logits, **case}


@samplers
@dtypes
def test_random_cases(sampler: str, dtype: torch.dtype) -> None:
    pick = random.Random(f"{sampler} {dtype}")
    for number in range(CASES_PER_TEST):
        case = random_case(pick, sampler, dtype)
        try:
            assert_same_draw_everywhere(case)
        except AssertionError as error:
            shapes = {k: list(v.shape) if isinstance(v, Tensor) and v.ndim else v for k, v in case.items()}
            raise AssertionError(f"case {number}, {shapes}: {error}") from error


def test_random_cases_are_more_than_a_thousand() -> None:
    assert CASES_PER_TEST * len(SAMPLERS) * len(DTYPES) >= 1000


@samplers
@pytest.mark.parametrize("items", [16383, 16384, 16385, 32768, 65537, 262_147])
def test_around_the_chunk_of_a_task(sampler: str, items: int) -> None:
    logits = 2 * torch.randn(2, items)
    estimator = "desraj" if sampler == "gumbel" else None
    assert_same_draw_everywhere(
        {"logits": logits, "num_samples": 33, "sampler": sampler, "estimator": estimator, "seed": items}
    )


@pytest.mark.slow
@samplers
def test_beyond_two_to_the_24_items(sampler: str) -> None:
    """float32 indices and torch.multinomial end at 2^24."""
    items = 2**24 + 3
    logits = torch.randn(1, items)
    logits[0, -3:] = 12.0  # so that the last items are among the drawn
    case = {"logits": logits, "num_samples": 40, "sampler": sampler, "seed": 24}
    if sampler == "gumbel":
        case["estimator"] = "desraj"
    assert int(draw(case, "cpu").index.max()) >= 2**24
    assert_same_draw_everywhere(case)


class TestPrefilter:
    """The race rejects losers by a bound that is a guess; where the guess fails it must widen."""

    @pytest.mark.parametrize("scale", [30.0, 60.0, 1000.0])
    @pytest.mark.parametrize("seed", range(3))
    def test_peaked_rows_widen_the_bound(self, scale: float, seed: int) -> None:
        logits = scale * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(seed))
        assert_same_draw_everywhere({"logits": logits, "num_samples": 20, "estimator": "desraj", "seed": seed})

    def test_one_item_far_above_all_others(self) -> None:
        logits = torch.randn(2, 50_000)
        logits[0, 777], logits[1, 49_999] = 500.0, 80.0
        assert_same_draw_everywhere({"logits": logits, "num_samples": 30, "estimator": "desraj", "seed": 5})

    def test_steps_of_hundreds_between_few_items(self) -> None:
        logits = torch.full((1, 20_000), -5000.0)
        logits[0, ::1999] = torch.arange(11).float() * -400
        assert_same_draw_everywhere({"logits": logits, "num_samples": 14, "estimator": "desraj", "seed": 6})

    @samplers
    @pytest.mark.parametrize("missing", [0, 1, 2, 100])
    def test_draws_close_to_all_items(self, sampler: str, missing: int) -> None:
        logits = 3 * torch.randn(1, 3000)
        estimator = "desraj" if sampler == "gumbel" else None
        assert_same_draw_everywhere(
            {"logits": logits, "num_samples": 3000 - missing, "sampler": sampler, "estimator": estimator, "seed": 8}
        )

    def test_few_drawable_items_in_many(self) -> None:
        mask = torch.zeros(1, 100_000, dtype=torch.bool)
        mask[0, torch.randperm(100_000)[:60]] = True
        case = {"logits": torch.randn(1, 100_000), "mask": mask, "seed": 9, "estimator": "desraj"}
        for draws in (1, 59, 60):
            assert_same_draw_everywhere({"num_samples": draws, **case})

    def test_equal_logits(self) -> None:
        assert_same_draw_everywhere(
            {"logits": torch.zeros(1, 70_001), "num_samples": 500, "seed": 10, "estimator": "desraj"}
        )


@samplers
def test_a_batch_split_in_two_draws_what_the_whole_draws(sampler: str, backend: str) -> None:
    logits, seeds = torch.randn(6, 40, 30), torch.randint(-(2**62), 2**62, (6,))
    mask = torch.rand(6, 40, 30) < 0.8

    def part(rows: slice) -> Sample:
        return zoomkern.sample(logits[rows], 12, sampler=sampler, mask=mask[rows], seed=seeds[rows], backend=backend)

    whole, split = part(slice(None)), [part(slice(0, 2)), part(slice(2, 6))]
    for w, *parts in zip(whole, *split, strict=True):
        assert torch.equal(w, torch.cat(parts))


@pytest.mark.parametrize(("sampler", "estimator"), [(s, e) for s in SAMPLERS for e in ESTIMATORS[s]])
@dtypes
def test_weighing_a_given_draw_gives_what_drawing_gave(sampler: str, estimator: str, dtype: torch.dtype) -> None:
    logits = (2 * torch.randn(3, 700)).to(dtype)
    rules: dict[str, Any] = {"sampler": sampler, "estimator": estimator}
    drawn = zoomkern.sample(logits, 25, seed=1, backend="cpu", **rules)
    weighed = zoomkern.draw_weights(logits, drawn.index, backend="cpu", **rules)
    assert all(torch.equal(a, b) for a, b in zip(drawn, weighed, strict=True))
    assert_close(weighed, zoomkern.draw_weights(logits, drawn.index, backend="reference", **rules))


@pytest.mark.parametrize("scale", [0.0, 1.0, 6.0, 30.0])
@pytest.mark.parametrize("draws", [1, 10, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_murthy_weights_of_many_draws(scale: float, draws: int, dtype: torch.dtype) -> None:
    logits = scale * torch.randn(2, 2000, dtype=dtype)
    given, wanted = (zoomkern.sample(logits, draws, seed=2, backend=b) for b in ("cpu", "reference"))
    assert torch.equal(given.index, wanted.index)
    assert_close(given, wanted)
    assert torch.allclose(given.weight.double().sum(1), torch.ones(2).double(), atol=1e-5 if scale < 30 else 1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("items", "draws"), [(1000, 256), (4000, 512), (20_000, 3000), (30_000, 20_000)])
def test_murthy_weights_keep_their_digits_however_many_draws(items: int, draws: int, scale: float) -> None:
    """The rule for float32 against the one for float64 of the same draw; the integrand narrows as 1 / sqrt(draws)."""
    logits = scale * torch.randn(1, items)
    drawn = zoomkern.sample(logits, draws, seed=2, backend="cpu")
    exact = zoomkern.draw_weights(logits.double(), drawn.index, backend="cpu").weight
    assert bool(((drawn.weight - exact).abs() <= 4e-6 * exact).all())  # 2e-6 each: the quadrature, and sums in float32


@pytest.mark.parametrize("heavy", [0, 1, 2], ids=["none", "one", "half"])
@pytest.mark.parametrize("draws", [8, 11, 13, 14, 20, 30])
def test_murthy_weights_keep_their_digits_beside_heavy_items(draws: int, heavy: int) -> None:
    """There the integrand is wide, and narrow at its end."""
    for scale, seed in itertools.product((1.0, 4.0), range(5)):
        generator = torch.Generator().manual_seed(seed)
        logits = scale * torch.randn(1, 4 * draws, generator=generator)
        logits[0, : (0, 1, draws // 2)[heavy]] += 25
        drawn = zoomkern.sample(logits, draws, seed=seed, backend="cpu")
        exact = zoomkern.draw_weights(logits.double(), drawn.index, backend="cpu").weight
        assert bool(((drawn.weight - exact).abs() <= 4e-6 * exact).all())


@samplers
def test_logits_far_from_zero_keep_their_log_prob(sampler: str) -> None:
    """A common offset cancels before anything is rounded."""
    logits = torch.randn(2, 300).mul(64).round() / 64
    case: dict[str, Any] = {"num_samples": 9, "sampler": sampler, "seed": 3}
    for offset in (0.0, 2.0**16, -(2.0**16)):
        assert_same_draw_everywhere({"logits": logits + offset, **case})


@samplers
@pytest.mark.parametrize("offset", [2.0**70, -(2.0**100)])
def test_equal_logits_beyond_all_digits_are_uniform(sampler: str, offset: float) -> None:
    assert_same_draw_everywhere(
        {"logits": torch.full((2, 300), offset), "num_samples": 9, "sampler": sampler, "seed": 3}
    )


class TestGradient:
    @pytest.mark.parametrize(("sampler", "estimator"), [(s, e) for s in SAMPLERS for e in ESTIMATORS[s]])
    @pytest.mark.parametrize("items", [1, 37, 16385])
    @dtypes
    def test_towards_logits_is_that_of_the_reference(
        self, sampler: str, estimator: str, items: int, dtype: torch.dtype
    ) -> None:
        draws = min(5, items)
        base = (2 * torch.randn(2, items)).to(dtype)
        mask = torch.rand(2, items) < 0.9
        mask[:, :draws] = True
        upstream = torch.randn(2, draws)
        grads = []
        for backend in ("cpu", "reference"):
            logits = base.clone().requires_grad_()
            drawn = zoomkern.sample(
                logits, draws, sampler=sampler, estimator=estimator, mask=mask, seed=1, backend=backend
            )
            assert not drawn.weight.requires_grad
            (drawn.log_prob * upstream).sum().backward()
            assert logits.grad is not None
            assert logits.grad.dtype == dtype
            assert not logits.grad[~mask].any()
            grads.append(logits.grad.double())
        # A drawn item's gradient is rounded twice, each time to the precision of the logits.
        precision = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12
        size = upstream.abs().sum(1, keepdim=True).double()
        assert bool(((grads[0] - grads[1]).abs() <= 2 * max(precision, 1e-12) * size).all())

    @pytest.mark.parametrize("offset", [1e12, -1e17, torch.finfo(torch.float32).min])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
    def test_an_offset_that_swallows_the_log_of_the_sum(self, backend: str, dtype: torch.dtype, offset: float) -> None:
        logits = torch.full((1, 4), offset, dtype=dtype, requires_grad=True)
        drawn = zoomkern.sample(logits, 1, seed=0, backend=backend)
        drawn.log_prob.sum().backward()
        wanted = torch.full((1, 4), -0.25, dtype=dtype)
        wanted[0, drawn.index[0, 0]] = 0.75
        assert logits.grad is not None
        assert torch.allclose(logits.grad, wanted, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)

    def test_repeats_add_up(self, backend: str) -> None:
        logits = torch.tensor([[5.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        drawn = zoomkern.draw_weights(logits, torch.tensor([[0, 0, 1]]), sampler="replacement", backend=backend)
        (drawn.log_prob * torch.tensor([[1.0, 2.0, 4.0]])).sum().backward()
        p = logits.detach()[0].softmax(0)
        wanted = torch.tensor([3.0, 4.0, 0.0]).double() - 7 * p
        assert logits.grad is not None
        assert torch.allclose(logits.grad[0], wanted, atol=1e-14)

    def test_padding_has_no_gradient(self, backend: str) -> None:
        logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        drawn = zoomkern.sample(logits, 5, on_short="pad", seed=0, backend=backend)
        drawn.log_prob[0, 3:].sum().backward()
        assert logits.grad is not None
        assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_the_gradient_of_16_bit_logits_is_that_of_wide_ones_rounded_once(dtype: torch.dtype) -> None:
    """512 draws of few items: added up in 16 bits, the gradient of an item would stop growing."""
    logits = torch.tensor([[4.0, 0.0, -1.0, 0.5]], dtype=dtype)
    grads = []
    for kind in (dtype, torch.float32):
        leaf = logits.detach().to(kind, copy=True).requires_grad_()
        drawn = zoomkern.sample(leaf, 512, sampler="replacement", seed=3, backend="cpu")
        (drawn.log_prob * torch.linspace(1, 2, 512)).sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(grads[0], grads[1].to(dtype))


def test_what_is_left_is_found_below_the_range_of_float32() -> None:
    """Items 90 and 100 nats below the first, of which a draw holds one; each of the pair counts double."""
    logits = torch.tensor([[0.0, -90.0, -90.0, -100.0]])
    index = torch.tensor([[0, 1], [0, 2], [0, 3]])
    rows = logits.expand(3, 4)
    for estimator in ESTIMATORS["gumbel"]:
        given = zoomkern.draw_weights(rows, index, estimator=estimator, backend="cpu")
        wanted = zoomkern.draw_weights(rows, index, estimator=estimator, backend="reference")
        # 1.4e-45 is the last place there.
        torch.testing.assert_close(given.weight, wanted.weight, rtol=1e-5, atol=2e-45)
    assert float(zoomkern.draw_weights(rows, index).weight[0, 1]) == pytest.approx(2 * math.exp(-90), rel=1e-4)


@pytest.mark.parametrize("width", [-3, 40, 51])
def test_an_op_takes_no_grid_that_the_items_do_not_fill(width: int) -> None:
    arguments = (torch.zeros(1, 50), None, torch.tensor(1), None, 3, SAMPLERS.index("threshold"), 0, True)
    for ops in (torch.ops.zoomkern, torch.ops.zoomkern_triton):
        with pytest.raises(RuntimeError, match="grid_width must divide the items"):
            ops.sample(*arguments, width)
    assert torch.ops.zoomkern.sample(*arguments, 10)[0].shape == (1, 3)

"""Draws on a GPU are those of the CPU bit for bit, and nobody waits for them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.typing import Sample

from ..ops.test_sampling import CASES_PER_TEST, DTYPES, assert_close, random_case
from .device import DEVICE, each_backend, moved, without_waiting

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
rules = pytest.mark.parametrize(("sampler", "estimator"), [(s, e) for s in SAMPLERS for e in ESTIMATORS[s]])
needs_gpu = pytest.mark.skipif(DEVICE.type != "cuda", reason="asks CUDA")

#: On both sides of the sizes at which kernels change their ways, and primes.
BORDERS = (32, 1 << 10, 1 << 12, 9708, 11264, 12288, 1 << 14, 22528, 1 << 15, 49152, 57344)
SIZES = sorted({size + d for size in BORDERS for d in (-1, 0, 1)})
SIZES += [1, 2, 97, 65_535, 65_537, 131_073, 262_147, 999_983]
HUGE = [10**6, 10**7, (1 << 24) + 3]


def draw(case: dict[str, Any], backend: str) -> Sample:
    return zoomkern.sample(**moved(case), backend=backend)


def assert_same_draw(case: dict[str, Any], backend: str, judge: str = "cpu") -> Sample:
    """The draw on the device is the judge's in host memory."""
    wanted, given = zoomkern.sample(**case, backend=judge), draw(case, backend)
    assert all(part.device.type == DEVICE.type for part in given)
    given = Sample(*(part.cpu() for part in given))
    assert torch.equal(given.index, wanted.index)
    assert_close(given, wanted)
    return given


def quick(sampler: str) -> str | None:
    """The rule whose weights a judge computes quickly."""
    return "desraj" if sampler == "gumbel" else None


@each_backend
@samplers
@dtypes
def test_random_cases_are_those_of_the_reference_and_of_the_cpu(
    sampler: str, dtype: torch.dtype, backend: str, native: str
) -> None:
    pick = random.Random(f"gpu {sampler} {dtype}")
    for number in range(CASES_PER_TEST):
        case = random_case(pick, sampler, dtype)
        try:
            for judge in ("reference", native):
                assert_same_draw(case, backend, judge)
        except AssertionError as error:
            shapes = {k: list(v.shape) if isinstance(v, Tensor) and v.ndim else v for k, v in case.items()}
            raise AssertionError(f"case {number}, {shapes}: {error}") from error


@each_backend
@samplers
@pytest.mark.parametrize("rows", [1, 3])
def test_sizes_at_the_borders_of_the_regimes(sampler: str, rows: int, backend: str, native: str) -> None:
    for items in SIZES:
        for draws in {1, min(33, items), min(257, items)}:
            case = {"logits": 2 * torch.randn(rows, items), "num_samples": draws, "sampler": sampler, "seed": items}
            assert_same_draw({**case, "estimator": quick(sampler)}, backend, native)


@each_backend
@rules
@pytest.mark.parametrize("items", HUGE)
def test_huge_rows(sampler: str, estimator: str, items: int, backend: str, native: str) -> None:
    """float32 indices and torch.multinomial end at 2^24."""
    logits = torch.randn(1, items)
    logits[0, -3:] = 12.0  # so that the last items are among the drawn
    case = {"logits": logits, "num_samples": 64, "sampler": sampler, "estimator": estimator, "seed": items}
    assert int(assert_same_draw(case, backend, native).index.max()) >= items - 3


@each_backend
@samplers
def test_many_rows(sampler: str, backend: str, native: str) -> None:
    """More than the 65,535 blocks that the second and third axis of a grid have."""
    case = {"logits": torch.randn(70_001, 9), "num_samples": 3, "sampler": sampler, "estimator": quick(sampler)}
    assert_same_draw({**case, "seed": 3}, backend, native)


def peaked() -> dict[str, Tensor]:
    one = torch.randn(2, 50_000)
    one[0, 777], one[1, 49_999] = 500.0, 80.0
    steps = torch.full((1, 20_000), -5000.0)
    steps[0, ::1999] = torch.arange(11).float() * -400
    far = torch.full((2, 3001), -1e30)
    far[:, [0, 3000]] = 0.0
    wide = 1000 * torch.randn(2, 30_000)
    return {
        "one far above": one,
        "steps": steps,
        "others at -1e30": far,
        "wide": wide,
        "equal": torch.zeros(1, 70_001),
        "equal and huge": torch.full((2, 300), 2.0**100),
    }


@each_backend
@samplers
@pytest.mark.parametrize("name", peaked())
def test_peaked_and_flat_rows(sampler: str, name: str, backend: str, native: str) -> None:
    logits = peaked()[name]
    case: dict[str, Any] = {"logits": logits, "sampler": sampler, "estimator": quick(sampler), "seed": 5}
    for draws in (1, 14, 200):
        assert_same_draw({**case, "num_samples": draws}, backend, native)


@each_backend
@samplers
@pytest.mark.parametrize("missing", [0, 1, 100])
def test_draws_close_to_all_items(sampler: str, missing: int, backend: str, native: str) -> None:
    case = {"logits": 3 * torch.randn(1, 3000), "num_samples": 3000 - missing, "sampler": sampler, "seed": 8}
    assert_same_draw({**case, "estimator": quick(sampler)}, backend, native)


@each_backend
def test_few_drawable_items_in_a_million(backend: str, native: str) -> None:
    mask = torch.zeros(1, 10**6, dtype=torch.bool)
    mask[0, torch.randperm(10**6)[:60]] = True
    for sampler in SAMPLERS:
        case = {"logits": torch.randn(1, 10**6), "mask": mask, "seed": 9, "sampler": sampler}
        assert_same_draw({**case, "num_samples": 60, "estimator": quick(sampler)}, backend, native)


@each_backend
@rules
@dtypes
def test_weighing_a_given_draw_gives_what_drawing_gave(
    sampler: str, estimator: str, dtype: torch.dtype, backend: str
) -> None:
    logits = (2 * torch.randn(3, 700)).to(dtype)
    rule: dict[str, Any] = {"sampler": sampler, "estimator": estimator}
    drawn = zoomkern.sample(logits.to(DEVICE), 25, seed=1, backend=backend, **rule)
    weighed = zoomkern.draw_weights(logits.to(DEVICE), drawn.index, backend=backend, **rule)
    assert all(torch.equal(a, b) for a, b in zip(drawn, weighed, strict=True))
    wanted = zoomkern.draw_weights(logits, drawn.index.cpu(), backend="reference", **rule)
    assert_close(Sample(*(part.cpu() for part in weighed)), wanted)


@each_backend
@rules
@pytest.mark.parametrize("items", [1, 37, 16385, 300_000])
@dtypes
def test_the_gradient_towards_logits_is_that_of_the_reference(
    sampler: str, estimator: str, items: int, dtype: torch.dtype, backend: str
) -> None:
    draws = min(5, items)
    base = (2 * torch.randn(2, items)).to(dtype)
    mask = torch.rand(2, items) < 0.9
    mask[:, :draws] = True
    upstream = torch.randn(2, draws)
    grads = []
    for name, device in ((backend, DEVICE), ("reference", torch.device("cpu"))):
        logits = base.to(device, copy=True).requires_grad_()
        rule = {"sampler": sampler, "estimator": estimator, "mask": mask.to(device), "backend": name}
        drawn = zoomkern.sample(logits, draws, seed=1, **rule)
        (drawn.log_prob * upstream.to(device)).sum().backward()
        assert logits.grad is not None
        assert logits.grad.dtype == dtype
        grads.append(logits.grad.cpu().double())
    assert not grads[0][~mask].any()
    # A drawn item's gradient is rounded twice, each time to the precision of the logits.
    precision = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12
    size = upstream.abs().sum(1, keepdim=True).double()
    assert bool(((grads[0] - grads[1]).abs() <= 2 * precision * size).all())


@each_backend
@samplers
def test_pooling_has_the_gradients_of_the_reference(sampler: str, backend: str) -> None:
    logits, features = torch.randn(3, 500, dtype=torch.float64), torch.randn(3, 20, 7, dtype=torch.float64)
    head = torch.randn(3, 7, dtype=torch.float64)
    grads = []
    for name, device in ((backend, DEVICE), ("reference", torch.device("cpu"))):
        leaves = [leaf.to(device, copy=True).requires_grad_() for leaf in (logits, features)]
        drawn = zoomkern.sample(leaves[0], 20, sampler=sampler, seed=2, backend=name)
        pooled = zoomkern.expectation(leaves[1], drawn, backend=name)
        grads.append([grad.cpu() for grad in torch.autograd.grad((pooled * head.to(device)).sum(), leaves)])
    for given, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-10)


@each_backend
@samplers
def test_a_batch_split_in_two_draws_what_the_whole_draws(sampler: str, backend: str) -> None:
    logits, seeds = torch.randn(6, 40, 30, device=DEVICE), torch.randint(-(2**62), 2**62, (6,), device=DEVICE)

    def part(rows: slice) -> Sample:
        return zoomkern.sample(logits[rows], 12, sampler=sampler, seed=seeds[rows], backend=backend)

    for whole, *parts in zip(part(slice(None)), part(slice(0, 2)), part(slice(2, 6)), strict=True):
        assert torch.equal(whole, torch.cat(parts))


@each_backend
def test_manual_seed_repeats_a_draw_and_moves_on(backend: str) -> None:
    logits = torch.zeros(2, 5000, device=DEVICE)
    torch.manual_seed(4)
    first, second = (zoomkern.sample(logits, 30, backend=backend).index for _ in range(2))
    torch.manual_seed(4)
    assert torch.equal(zoomkern.sample(logits, 30, backend=backend).index, first)
    assert not torch.equal(first, second)


@needs_gpu
def test_the_gpu_is_served_by_the_cuda_library_where_it_is_built() -> None:
    from zoomkern.ops import backends

    on = backends.explain()
    wanted = next(name for name in ("cuda", "triton", "reference") if on[name][0])
    assert backends.choose(None, torch.device("cuda")) == wanted


@needs_gpu
@each_backend
@samplers
@pytest.mark.parametrize("items", [500, 20_000, 2_000_000])
def test_nobody_waits_for_a_draw_or_its_gradient(sampler: str, items: int, backend: str) -> None:
    logits = torch.randn(2, items, device=DEVICE, requires_grad=True)
    mask = torch.ones(2, items, dtype=torch.bool, device=DEVICE)
    counts = torch.tensor([3, 8], device=DEVICE)
    seeds = torch.tensor([1, 2], device=DEVICE)

    def step(seed: Any) -> Tensor:
        options = {"sampler": sampler, "mask": mask, "seed": seed, "max_samples": 8, "backend": backend}
        drawn = zoomkern.sample(logits, counts, on_short="pad", **options)
        return torch.autograd.grad(drawn.log_prob.sum(), logits)[0]

    for seed in (None, 7, seeds):
        without_waiting(lambda seed=seed: step(seed))

"""Hardly more items than are drawn get an exact key, wherever the attention lies; the emulation counts."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import zoomkern


class Counters:
    """How many arrival times, and how many comparable numbers, the kernels computed since they were asked last."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.reseed = library.zoomkern_reseed_emulation
        self.reseed.argtypes = [ctypes.c_uint64]
        self.keys = library.zoomkern_emulated_arrival_times
        self.numbers = library.zoomkern_emulated_ordered_numbers
        self.keys.restype = self.numbers.restype = ctypes.c_uint64

    def reset(self) -> None:
        self.keys()
        self.numbers()


@pytest.fixture(autouse=True)
def counters() -> Iterator[Counters]:
    emulated = [path for path in torch.ops.loaded_libraries if "emulated" in str(path)]
    if not emulated:
        pytest.skip("the kernels are not emulated in this process")
    found = Counters(ctypes.CDLL(emulated[0]))
    yield found
    found.reseed(1)


def _blob(side: int, block: int, height: float) -> Tensor:
    """Attention to one place."""
    logits = torch.randn(side, side)
    logits[side // 3 :, side // 4 :][:block, :block] += height
    return logits.flatten()


def _spikes(items: int, *heights: float) -> Tensor:
    """One of every 300 items stands out, by each of the heights in turn; none hides the others from a part's sum."""
    logits = torch.randn(items)
    logits[7::300] += torch.tensor(heights).repeat(items)[: len(logits[7::300])]
    return logits


#: Too long for the reference, and for more than two numbers of draws.
LONGEST: dict[str, Callable[[], Tensor]] = {
    "diffuse": lambda: torch.randn(1_000_000),
    "blob of 40": lambda: _blob(1000, 40, 12),
    "blob of 100": lambda: _blob(1000, 100, 10),
    "steep": lambda: 5 * torch.randn(1_000_000),
    "spikes": lambda: _spikes(1_000_000, 25),
}
ROWS: dict[str, Callable[[], Tensor]] = {
    "diffuse": lambda: torch.randn(40_000),
    "nearly equal": lambda: 0.01 * torch.randn(100_000),
    "blob": lambda: _blob(200, 40, 12),
    "steep": lambda: 5 * torch.randn(200_000),
    "wide": lambda: 1000 * torch.randn(100_000),
    "spikes": lambda: _spikes(40_000, 25),
    "spikes of two heights": lambda: _spikes(100_000, 20, 60),
    "spikes on a blob": lambda: _blob(300, 40, 12) + _spikes(90_000, 40),
    "one peak": lambda: torch.cat([torch.randn(50_000), torch.tensor([500.0])]),
    "far apart": lambda: torch.where(torch.arange(60_000) % 2 == 0, -1e30, torch.randn(60_000)),
    "float64": lambda: _blob(200, 40, 12).double(),
    "float16": lambda: _blob(200, 40, 12).half(),
    "bfloat16": lambda: (5 * torch.randn(40_000)).bfloat16(),
}


def draw(logits: Tensor, draws: int, sampler: str, backend: str = "cpu") -> Tensor:
    # Murthy's quadrature is what would take the time.
    estimator = "desraj" if sampler == "gumbel" else None
    return zoomkern.sample(logits[None], draws, seed=7, sampler=sampler, estimator=estimator, backend=backend).index


def assert_few(logits: Tensor, draws: int, sampler: str, counters: Counters) -> Tensor:
    """Whoever looks through a whole row takes a comparable number of every item at least; those of parts are few."""
    counters.reset()
    index = draw(logits, draws, sampler)
    if sampler == "gumbel":
        assert draws <= counters.keys() <= draws + 6 * math.sqrt(draws) + 16
    assert counters.numbers() < len(logits) / 10
    return index


samplers = pytest.mark.parametrize("sampler", ["gumbel", "topk"])
#: Of rows that a warp or a block has for itself.
SHORT: dict[str, Callable[[int], Tensor]] = {
    "diffuse": torch.randn,
    "blob": lambda items: _blob(math.isqrt(items), math.isqrt(items) // 5, 12),
    "steep": lambda items: 5 * torch.randn(items),
    "spikes": lambda items: _spikes(items, 25),
    "one peak": lambda items: torch.cat([torch.randn(items - 1), torch.tensor([500.0])]),
    "equal": torch.zeros,
}


@pytest.mark.parametrize("draws", [1, 8, 64, 256])
@pytest.mark.parametrize("items", [300, 1000, 1024, 1156, 5041, 22_500, 32_761])
@pytest.mark.parametrize("kind", SHORT)
def test_few_keys_of_a_short_row_are_computed(kind: str, items: int, draws: int, counters: Counters) -> None:
    torch.manual_seed(draws)
    logits = SHORT[kind](items)
    counters.reset()
    index = draw(logits, draws, "gumbel")
    assert draws <= counters.keys() <= draws + 6 * math.sqrt(draws) + 16
    assert torch.equal(index, draw(logits, draws, "gumbel", "reference"))


@samplers
@pytest.mark.parametrize("draws", [64, 256, 1024])
@pytest.mark.parametrize("kind", ROWS)
def test_few_keys_are_computed(kind: str, draws: int, sampler: str, counters: Counters) -> None:
    torch.manual_seed(draws)
    logits = ROWS[kind]()
    index = assert_few(logits, draws, sampler, counters)
    assert torch.equal(index, draw(logits, draws, sampler, "reference"))


@pytest.mark.parametrize("draws", [256, 1000])
@pytest.mark.parametrize("kind", LONGEST)
def test_few_keys_of_a_million_are_computed(kind: str, draws: int, counters: Counters) -> None:
    torch.manual_seed(draws)
    assert_few(LONGEST[kind](), draws, "gumbel", counters)


@samplers
@pytest.mark.parametrize("kind", ["blob", "spikes", "far apart"])
def test_what_is_counted_depends_on_no_schedule(kind: str, sampler: str, counters: Counters) -> None:
    torch.manual_seed(0)
    logits = ROWS[kind]()
    counts = set()
    for schedule in range(4):
        counters.reseed(schedule)
        counters.reset()
        draw(logits, 256, sampler)
        counts.add((counters.keys(), counters.numbers()))
    assert len(counts) == 1

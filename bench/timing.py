"""The clock: candidates take turns, so that a drift of the machine meets all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch

BLOCK_SECONDS = 2e-3  # calls shorter than this are timed several at a time
ROUNDS = (7, 60)
FEWEST = 3  # rounds of calls that take seconds


class Rival(NamedTuple):
    """What ours is compared with.

    Args:
        name: as the tables call it.
        run: one call; None where it cannot run here, and then ``missing`` says why.
        goal: the ratio (its time over ours) that is asked for.
        threads: torch threads for its calls, if not those of the session.
        missing: why it cannot run.
    """

    name: str
    run: Callable[[], Any] | None
    goal: float | None = None
    threads: int | None = None
    missing: str | None = None


def race(benchmark: Any, ours: Callable[[], Any], rivals: Sequence[Rival], seconds: float) -> list[list[float]] | None:
    """Seconds per call, a list per candidate, ours first; None with ``--benchmark-disable``.

    Each round times every rival and then ours, pytest-benchmark holding the clock for ours. Results are freed inside
    the timed region.
    """
    once = _once(ours)
    calls = max(1, min(200, math.ceil(BLOCK_SECONDS / once)))
    cost = calls * (once + sum(_with_threads(rival, lambda r=rival: _once(r.run)) for rival in rivals))
    rounds = max(ROUNDS[0], min(ROUNDS[1], int(seconds / cost)))
    times: list[list[float]] = [[] for _ in rivals]

    def rivals_first() -> None:
        for rival, durations in zip(rivals, times, strict=True):
            durations.append(_with_threads(rival, lambda r=rival: _block(r.run, calls)))
        if any(rival.threads for rival in rivals):
            ours()  # wakes the threads again

    benchmark.pedantic(_repeat_and_wait, args=(ours, calls), setup=rivals_first, rounds=rounds, iterations=1)
    if benchmark.stats is None:
        return None
    benchmark.extra_info["calls_per_round"] = calls
    return [[duration / calls for duration in durations] for durations in (benchmark.stats.stats.data, *times)]


def turns(runs: Sequence[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """Seconds per call, a list per candidate, by turns; who has used up ``seconds`` drops out after three rounds."""
    costs = [_block(run, 1) for run in runs]
    rounds = [max(FEWEST, min(ROUNDS[1], int(seconds / cost))) for cost in costs]
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(max(rounds, default=0)):
        for run, most, durations in zip(runs, rounds, times, strict=True):
            if turn < most:
                durations.append(_block(run, 1))
    return times


def summary(durations: Sequence[float]) -> dict[str, float | int]:
    """Median and the 20th and 80th percentile, in seconds."""
    low, *_, high = quantiles(durations, n=5, method="inclusive")
    return {"median": median(durations), "p20": low, "p80": high, "rounds": len(durations)}


def measure(run: Callable[[], Any], rounds: int = 9) -> float:
    """Median seconds of a call, after a warm-up."""
    run()
    return median(_block(run, 1) for _ in range(rounds))


def _once(run: Callable[[], Any]) -> float:
    run()
    return min(_block(run, 1) for _ in range(2))


def _repeat_and_wait(run: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        run()
    synchronize()


def _block(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    _repeat_and_wait(run, calls)
    return time.perf_counter() - start


class Stopwatch:
    """Seconds of the parts of a call, each waited for; parts do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        synchronize()
        start = time.perf_counter()
        yield
        synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, each call of it counted for the part ``name``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


def synchronize() -> None:
    """Waits for the device; the CPU's ops return when they are done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _with_threads(rival: Rival, timed: Callable[[], float]) -> float:
    if rival.threads is None:
        return timed()
    before = torch.get_num_threads()
    torch.set_num_threads(rival.threads)
    try:
        rival.run()
        return timed()
    finally:
        torch.set_num_threads(before)

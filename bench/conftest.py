"""Options, shared workloads, and the writer of ``bench/results/<suite>--<device>.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import floor, machine, timing, workloads

SCHEMA = 1
CPU = torch.device("cpu")
_written: pytest.StashKey[dict[tuple[str, str], list[dict[str, Any]]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zoomkern benches")
    group.addoption("--bench-seconds", type=float, default=8.0, help="time for a row, its rivals included")
    group.addoption(
        "--bench-device", type=torch.device, default="cpu", help="where draws and networks run: cpu or cuda"
    )
    group.addoption("--bench-threads", type=int, default=2, help="torch threads")
    group.addoption("--bench-results", type=Path, help="folder of the result files; nothing is written without it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_written] = {}
    if config.getoption("--bench-device").type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--bench-device cuda: torch sees no CUDA device; leave it out to measure on the CPU")


@pytest.fixture(scope="session", autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--bench-threads"))
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def origin() -> dict[str, Any]:
    commit, dirty = machine.commit()
    return {"commit": commit, "dirty": dirty, "machine": machine.describe()}


@pytest.fixture(scope="session")
def pictures() -> list[torch.Tensor]:
    """Four images of 8192 x 8192 pixels of three bytes."""
    return workloads.pictures(4, 8192)


@pytest.fixture
def put(request: pytest.FixtureRequest, origin: dict[str, Any]) -> Callable[..., None]:
    """Puts one row of any shape into the result file of the suite and the device."""

    def put_row(device: str = "cpu", **row: Any) -> None:
        where = {**origin["machine"], **machine.accelerator(device)}
        row.update(threads=torch.get_num_threads(), **{**origin, "machine": where})
        suite = request.path.stem.removeprefix("bench_")
        request.config.stash[_written].setdefault((suite, device), []).append(row)

    return put_row


@pytest.fixture
def keep(put: Callable[..., None]) -> Callable[..., None]:
    """Keeps one row of an op and its rivals."""

    def keep_row(name: str, work: str, against: list[dict[str, Any]], **fields: Any) -> None:
        empty = {"time": None, "bytes_moved": None, "share": None, "peak_bytes": None}
        put(**{"name": name, "work": work, **empty, **fields, "against": against})

    return keep_row


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where draws and whole networks run; the other suites of ops stay in host memory."""
    return request.config.getoption("--bench-device")


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: Any, keep: Callable[..., None]) -> Callable[..., None]:
    """Times ours against its rivals by turns and keeps the row."""

    def record_row(
        name: str,
        work: str,
        ours: Callable[[], Any],
        rivals: Sequence[timing.Rival],
        *,
        bytes_moved: int,
        share_of: str | None = "copy",
        speed: float | None = None,
        device: torch.device = CPU,
    ) -> None:
        """``share_of`` names what ``speed``, in bytes per second, is of; left out it is that of ``device``'s memory."""
        present = [rival for rival in rivals if rival.run is not None]
        times = timing.race(benchmark, ours, present, request.config.getoption("--bench-seconds"))
        if times is None:
            return
        mine, *theirs = map(timing.summary, times)
        found = {rival.name: summary for rival, summary in zip(present, theirs, strict=True)}
        against = []
        for rival in rivals:
            summary = found.get(rival.name)
            ratio = summary["median"] / mine["median"] if summary else None
            entry = {"name": rival.name, "time": summary, "ratio": ratio, "goal": rival.goal}
            against.append({**entry, "peak_bytes": None, "missing": rival.missing})
        share = None
        if share_of is not None:
            whole = floor.bandwidths(device)[share_of] if speed is None else speed
            share = {"of": share_of, "speed": whole, "value": bytes_moved / mine["median"] / whole}
        keep(name, work, against, device=device.type, time=mine, bytes_moved=bytes_moved, share=share)
        benchmark.extra_info["ratios"] = {entry["name"]: entry["ratio"] for entry in against}

    return record_row


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.getoption("--bench-results")
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for (suite, device), rows in session.config.stash[_written].items():
        write(folder / f"{suite}--{device}.json", suite, device, rows)


def write(path: Path, suite: str, device: str, rows: list[dict[str, Any]]) -> None:
    """Replaces rows of the same name and keeps the others, each with its own commit and machine."""
    fresh = {row["name"]: row for row in rows}
    old = json.loads(path.read_text())["rows"] if path.is_file() else []
    merged = {row["name"]: row for row in old} | fresh
    document = {"schema": SCHEMA, "suite": suite, "device": device, "rows": list(merged.values())}
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(beside, path)

"""``zoomkern.gather_patches`` from page-locked memory, against the link it reads through.

Rates are of calls in a CUDA graph, so that the host's time is not in them: as many calls in a graph as make up
100 MB, each at places of its own, against one plain kernel, or one copy, of as many bytes.
"""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, timing, workloads
from bench.gpu.graphs import captured
from bench.timing import Rival
from bench.workloads import GIGABYTE, MEAN, STD
from zoomkern.ops import backends

WORKS = {"64x256": (64, 256, 0.9), "64x100": (64, 100, 0.7), "1024x224": (1024, 224, None)}
LEAST = 10**8  # bytes in a graph
ROUNDS = 9
STREAM, COPY = "plain kernel, the same bytes in a row", "copy engine, the same bytes in a row"
CAP = "ZOOMKERN_GATHER_MULTIPROCESSORS"
READ = {"mean": MEAN, "std": STD, "dtype": torch.float16}


def work_of(name, side):
    draws, patch, _ = WORKS[name]
    return f"one image of {side} x {side} x 3 uint8, page-locked, N = {draws}, {patch} x {patch} float16"


def require_cap():
    on, reason = backends.explain()["cuda"]
    if not on:
        pytest.skip(f"only the CUDA library caps its multiprocessors: {reason}")


class Calls:
    """Calls in a graph: ``replay`` makes them all."""

    def __init__(self, image, name):
        draws, patch, _ = WORKS[name]
        self.nbytes = draws * 3 * patch * patch
        self.count = -(-LEAST // self.nbytes)
        side = image.shape[1]
        self.places = [workloads.places(1, draws, side, patch).cuda() for _ in range(self.count)]
        out = torch.empty(1, draws, 3, patch, patch, dtype=torch.float16, device="cuda")
        turn = workloads.rotate(self.places)
        self.call = lambda: zoomkern.gather_patches([image], turn(), patch, out=out, **READ)
        at = self.places[0]
        given = zoomkern.gather_patches([image], at, patch, **READ)
        wanted = zoomkern.gather_patches([image.tensor], at.cpu(), patch, **READ)
        assert torch.equal(given.cpu(), wanted)
        self.replay = captured(self.call, self.count)
        self.total = self.count * self.nbytes


def rivals_of(link, image, nbytes):
    address = image.tensor.data_ptr()
    target = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
    return {STREAM: lambda: link.stream(address, nbytes), COPY: lambda: link.copy(target, address, nbytes)}


@pytest.mark.parametrize("name", WORKS)
def test_gather_at_the_speed_of_the_link(record, device, link, picture, name):
    image = picture(GIGABYTE)
    calls = Calls(image, name)
    rivals = rivals_of(link, image, calls.total)
    record(
        f"graph-{name}",
        f"{work_of(name, GIGABYTE)}, {calls.count} calls in a graph",
        calls.replay,
        [Rival(rival, run) for rival, run in rivals.items()],
        bytes_moved=calls.total,
        share_of="C",
        speed=calls.total / timing.measure(rivals[STREAM]),
        device=device,
    )


@pytest.mark.parametrize("count", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("name", ["64x256", "64x100"])
@pytest.mark.parametrize("capped", [True, False], ids=["capped", "uncapped"])
def test_gather_on_few_multiprocessors(benchmark, keep, device, link, picture, monkeypatch, capped, name, count):
    """All other multiprocessors are occupied; the rivals have the whole device.

    Under the cap, which the goals are about, a multiprocessor has one block; without it as many as fit.
    """
    monkeypatch.delenv(CAP, raising=False)
    if capped:
        require_cap()
        monkeypatch.setenv(CAP, str(count))
    image = picture(GIGABYTE)
    calls = Calls(image, name)
    rivals = rivals_of(link, image, calls.total)
    for run in (calls.replay, *rivals.values()):
        run()
    times = {None: [], **{rival: [] for rival in rivals}}
    for _ in range(ROUNDS):
        for rival, run in rivals.items():
            times[rival].append(link.seconds(run))
        times[None].append(link.seconds_on(count, calls.replay))
    benchmark.pedantic(calls.replay, rounds=1)
    mine, *theirs = map(timing.summary, times.values())
    goal = WORKS[name][2] if capped and count == 16 else None
    against = [
        {
            "name": rival,
            "time": summary,
            "ratio": summary["median"] / mine["median"],
            "goal": goal if rival == STREAM else None,
            "peak_bytes": None,
            "missing": None,
        }
        for rival, summary in zip(rivals, theirs, strict=True)
    ]
    work = f"{work_of(name, GIGABYTE)}, {calls.count} calls in a graph on {count} multiprocessors"
    work += ", one block on each" if capped else ""
    row = f"few-{name}-{count}{'-capped' if capped else ''}"
    keep(row, work, against, device=device.type, time=mine, bytes_moved=calls.total)


@pytest.mark.parametrize("count", [16, None], ids=["capped", "uncapped"])
def test_gather_beside_a_matmul(record, device, picture, monkeypatch, count):
    """On a side stream, while products of matrices that take about as long occupy the current one."""
    require_cap()
    monkeypatch.delenv(CAP, raising=False)
    if count:
        monkeypatch.setenv(CAP, str(count))
    calls, side = Calls(picture(GIGABYTE), "64x256"), torch.cuda.Stream()  # captured under the cap
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    product = torch.empty_like(matrix)

    def multiply_once():
        torch.mm(matrix, matrix, out=product)

    products = max(1, round(timing.measure(calls.replay) / timing.measure(multiply_once)))

    def multiply():
        for _ in range(products):
            multiply_once()

    def beside():
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            calls.replay()
        multiply()
        torch.cuda.current_stream().wait_stream(side)

    def one_after_the_other():
        calls.replay()
        multiply()

    record(
        f"beside-matmul-{'all' if count is None else count}",
        f"{work_of('64x256', GIGABYTE)}, {calls.count} calls in a graph on a side stream, on "
        f"{'all' if count is None else count} multiprocessors, beside {products} products of 8192 x 8192 float16",
        beside,
        [
            Rival("one after the other", one_after_the_other, 1 if count else None),
            Rival("the gather alone", calls.replay),
            Rival("the products alone", multiply),
        ],
        bytes_moved=calls.total,
        share_of=None,
        device=device,
    )


@pytest.mark.parametrize("name", ["64x256", "64x100"])
def test_thirty_gigabytes_cost_what_one_does(record, device, picture, name):
    side = 102_400  # 31.5 GB
    calls, small = Calls(picture(side), name), Calls(picture(GIGABYTE), name)
    record(
        f"30GB-{name}",
        f"{work_of(name, side)}, {calls.count} calls in a graph",
        calls.replay,
        [Rival("the same in an image of 1 GB", small.replay, 1 / 1.15)],
        bytes_moved=calls.total,
        share_of=None,
        device=device,
    )


@pytest.mark.parametrize("name", ["64x100", "1024x224"])
def test_a_call_against_gathering_on_the_host(record, device, picture, name):
    draws, patch, _ = WORKS[name]
    image = picture(GIGABYTE)
    places = [workloads.places(1, draws, GIGABYTE, patch) for _ in range(8)]
    host, there = workloads.rotate(places), workloads.rotate([at.cuda() for at in places])
    staging = torch.empty(draws, 3, patch, patch, dtype=torch.uint8, pin_memory=True)

    def ours():
        return zoomkern.gather_patches([image], there(), patch, **READ)

    def rival(into, at=None):
        return baselines.host_gather(image.tensor, (host() if at is None else at)[0], patch, into)

    given = zoomkern.gather_patches([image], places[0].cuda(), patch, mean=MEAN, std=STD)[0]
    torch.testing.assert_close(rival(staging, places[0]), given.half(), rtol=1e-3, atol=2e-3)
    record(
        f"call-{name}",
        work_of(name, GIGABYTE),
        ours,
        [
            Rival("slice, stack, pin, copy, normalise", lambda: rival(None), 10 if draws == 64 else 8),
            Rival("slices into a page-locked buffer, copy, normalise", lambda: rival(staging)),
        ],
        bytes_moved=draws * 3 * patch * patch,
        share_of=None,
        device=device,
    )

"""What the link gives, whatever is written on top: plain kernels, the bulk copy engine, the copy engine, latency.

In this suite the column ``zoomkern`` is a plain kernel that reads a buffer in a row with 16-byte loads: the C of the
gathering's goals; the copy engine is their CE.
"""

from __future__ import annotations

import ctypes
from functools import partial

import pytest
import torch

from bench import timing
from bench.gpu.graphs import captured
from bench.timing import Rival

BILLION = 10**9
SIZES = {"1GB": 1 << 30, "16GB": 1 << 34, "30GB": 30 << 30}
BUFFERS = [("cudaHostAlloc", "1GB"), ("4 KB pages", "1GB"), ("huge pages", "1GB")]
BUFFERS += [("cudaHostAlloc", "16GB"), ("4 KB pages", "16GB"), ("huge pages", "30GB")]
STEPS, PAGE = 2000, 4096
TARGET = 1 << 28  # bytes that the copy engine writes again and again


def copier(link, address, nbytes):
    target = torch.empty(TARGET, dtype=torch.uint8, device="cuda")

    def copy():
        for at in range(0, nbytes, TARGET):
            link.copy(target, address + at, min(TARGET, nbytes - at))

    return copy


def bulk_reader(link, address, nbytes, blocks=None):
    if torch.cuda.get_device_capability()[0] < 9:
        return Rival("bulk copy engine", None, missing="needs compute capability 9.0")
    return Rival("bulk copy engine", lambda: link.bulk(address, nbytes, blocks))


@pytest.mark.parametrize(("pages", "size"), BUFFERS, ids=lambda word: word.replace(" ", "-"))
def test_reading_page_locked_memory(record, device, link, pages, size):
    nbytes = SIZES[size]
    with link.memory(pages, nbytes) as address:
        record(
            f"stream-{pages.replace(' ', '-')}-{size}",
            f"a plain kernel reads {nbytes / BILLION:.1f} GB of page-locked memory, {pages}",
            lambda: link.stream(address, nbytes),
            [Rival("copy engine", copier(link, address, nbytes)), bulk_reader(link, address, nbytes)],
            bytes_moved=nbytes,
            share_of=None,
            device=device,
        )


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 32, 64])
def test_reading_with_few_multiprocessors(record, device, link, count):
    nbytes = 1 << 28
    with link.memory("huge pages", nbytes) as address:
        record(
            f"multiprocessors-{count}",
            f"{count} blocks, of which a multiprocessor has at most one, read {nbytes / BILLION:.2f} GB",
            lambda: link.stream(address, nbytes, count),
            [Rival("with all", lambda: link.stream(address, nbytes)), bulk_reader(link, address, nbytes, count)],
            bytes_moved=nbytes,
            share_of=None,
            device=device,
        )


@pytest.mark.parametrize("pixels", [50, 100, 224, 256, 500])
def test_reading_rows_that_start_anywhere(record, device, link, pixels):
    """Rows of a patch of RGB bytes: what their lines cost beyond their bytes."""
    row, total, buffer = 3 * pixels, 1 << 27, 1 << 30
    count = total // row
    starts = torch.randint(0, buffer - row - 16, (count,), device="cuda")
    with link.memory("huge pages", buffer) as address:
        record(
            f"rows-{row}B",
            f"{count:,} rows of {row} bytes that start anywhere, as of patches {pixels} pixels wide",
            lambda: link.rows(address, starts, row),
            [Rival("the same bytes in a row", lambda: link.stream(address, count * row))],
            bytes_moved=count * row,
            share_of=None,
            device=device,
        )


@pytest.mark.parametrize("size", ["1GB", "16GB"])
def test_latency_of_a_dependent_read(benchmark, keep, device, link, size):
    nbytes = SIZES[size]
    with link.memory("huge pages", nbytes) as address:
        places = torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.int64)
        pages = 1 + torch.randperm(nbytes // PAGE - 1)[:STEPS]
        path = torch.cat([pages.new_zeros(1), pages]) * (PAGE // 8)
        places[path[:-1]] = path[1:]
        benchmark.pedantic(link.seconds, args=(lambda: link.chase(address, STEPS),), rounds=1)
        times = [link.seconds(lambda: link.chase(address, STEPS)) / STEPS for _ in range(9)]
    work = f"one of {STEPS:,} reads that each tell the next, in {nbytes / BILLION:.1f} GB of huge pages"
    keep(f"latency-{size}", work, [], device=device.type, time=timing.summary(times))


def test_reading_device_memory(record, device, link):
    source = torch.randint(0, 256, (1 << 33,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    record(
        "device-memory",
        f"a plain kernel reads {source.nbytes / BILLION:.1f} GB of device memory",
        lambda: link.stream(source.data_ptr(), source.nbytes, 16 * link.multiprocessors()),
        [Rival("copy in device memory", lambda: target.copy_(source))],
        bytes_moved=source.nbytes,
        share_of=None,
        device=device,
    )


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_two_passes(record, device, link, graph):
    """What lies between two passes over a row: it decides whether a draw should be launched otherwise."""
    blocks = link.multiprocessors()
    newest = torch.cuda.get_device_capability()[0] >= 9

    def way(kind):
        if not newest and kind in ("dependent launch", "cluster of 8"):
            return Rival(kind, None, missing="needs compute capability 9.0")
        run = partial(link.passes, kind, blocks)
        return Rival(kind, captured(run, 10) if graph else run)

    first, *others = map(way, link.PASSES)
    record(
        f"passes-{'graph' if graph else 'eager'}",
        f"two passes of {blocks} blocks that do next to nothing" + (", ten times in a CUDA graph" if graph else ""),
        first.run,
        others,
        bytes_moved=8,
        share_of=None,
        device=device,
    )

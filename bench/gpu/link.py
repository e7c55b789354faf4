"""Plain kernels and the copy engine on the memory that a GPU reads through its link (``ceilings.cu``)."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("ceilings.cu")
PASSES = ("two launches", "dependent launch", "cooperative launch", "cluster of 8")
PAGES = ("cudaHostAlloc", "4 KB pages", "huge pages")
POPULATORS = min(16, os.cpu_count() or 1)
HUGE = 1 << 21
_LONG, _POINTER = ctypes.c_int64, ctypes.c_void_p
_SIGNATURES = {
    "attribute": (ctypes.c_int,),
    "allocate": (ctypes.c_int, ctypes.c_size_t, ctypes.c_int),
    "release": (ctypes.c_int, _POINTER, ctypes.c_size_t),
    "stream": (_POINTER, _LONG, ctypes.c_int, _POINTER, _POINTER),
    "rows": (_POINTER, _POINTER, _LONG, _LONG, ctypes.c_int, _POINTER, _POINTER),
    "chase": (_POINTER, _LONG, _POINTER, _POINTER),
    "bulk": (_POINTER, _LONG, ctypes.c_int, _POINTER, _POINTER),
    "copy": (_POINTER, _POINTER, _LONG, _POINTER),
    "passes": (ctypes.c_int, ctypes.c_int, _POINTER, _POINTER, _POINTER),
    "hold": (ctypes.c_int, ctypes.c_uint64, _POINTER, _POINTER),
}


def compiler() -> str | None:
    """nvcc on the PATH or where it is usually installed."""
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


@functools.cache
def library() -> ctypes.CDLL:
    """``ceilings.cu``, compiled for the present device."""
    major, minor = torch.cuda.get_device_capability()
    path = Path(tempfile.mkdtemp(prefix="ceilings-")) / "ceilings.so"
    words = [compiler() or "nvcc", "-O3", "-std=c++20", f"-arch=sm_{major}{minor}", "-shared", "-Xcompiler", "-fPIC"]
    subprocess.run([*words, "-o", str(path), str(SOURCE)], check=True)
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # torch's context is the one that both use
    loaded = ctypes.CDLL(str(path))
    for name, arguments in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = arguments
        function.restype = _POINTER if name == "allocate" else ctypes.c_int
    return loaded


def _queue(name: str, *arguments: Any) -> None:
    """Calls a function that ends in a stream, the current one."""
    error = getattr(library(), name)(*arguments, torch.cuda.current_stream().cuda_stream)
    if error:
        raise RuntimeError(f"{name} failed with CUDA error {error}")


@functools.cache
def _sink() -> Tensor:
    return torch.zeros(1, dtype=torch.int32, device="cuda")


@functools.cache
def _seen() -> Tensor:
    return torch.zeros(1, dtype=torch.int32, device="cuda")


def multiprocessors() -> int:
    return torch.cuda.get_device_properties(0).multi_processor_count


def stream(address: int, nbytes: int, blocks: int | None = None) -> None:
    """Reads bytes in a row with 16-byte loads; up to as many blocks as there are multiprocessors take one each."""
    _queue("stream", address, nbytes, blocks or 2 * multiprocessors(), _sink().data_ptr())


def rows(address: int, starts: Tensor, nbytes: int, blocks: int | None = None) -> None:
    """Reads rows of some bytes that start anywhere."""
    many = blocks or 2 * multiprocessors()
    _queue("rows", address, starts.data_ptr(), starts.numel(), nbytes, many, _sink().data_ptr())


def chase(address: int, steps: int) -> None:
    """Reads a place, which tells the next, and so on."""
    _queue("chase", address, steps, _sink().data_ptr())


def bulk(address: int, nbytes: int, blocks: int | None = None) -> None:
    """Reads through the bulk copy engine of compute capability 9.0."""
    _queue("bulk", address, nbytes, blocks or multiprocessors(), _sink().data_ptr())


def copy(target: Tensor, address: int, nbytes: int) -> None:
    """The copy engine."""
    _queue("copy", target.data_ptr(), address, nbytes)


def passes(kind: str, blocks: int) -> None:
    """Two passes that do next to nothing, of which the second needs all of the first."""
    _queue("passes", PASSES.index(kind), blocks, _seen().data_ptr(), _sink().data_ptr())


def attribute(number: int) -> int:
    """A device attribute, -1 where it is unknown."""
    return int(library().attribute(number))


@contextmanager
def memory(pages: str, nbytes: int) -> Iterator[int]:
    """The address of page-locked memory, filled."""
    kind = PAGES.index(pages)
    address = library().allocate(kind, nbytes, POPULATORS)
    if not address:
        raise MemoryError(f"{nbytes:,} bytes in {pages} were refused")
    try:
        yield address
    finally:
        torch.cuda.synchronize()
        if error := library().release(kind, address, nbytes):
            raise RuntimeError(f"releasing memory failed with CUDA error {error}")


def seconds(run: Callable[[], Any]) -> float:
    """Of a call on the current stream, as the device measures it."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def seconds_on(count: int, run: Callable[[], Any], most: float = 0.15) -> float:
    """Of a call while all but ``count`` multiprocessors are occupied, ``most`` seconds at the longest.

    The call must have run before: what is loaded or allocated for the first time would wait for the whole device.
    """
    taken = multiprocessors() - count
    if taken <= 0:
        return seconds(run)
    started = torch.zeros(taken, dtype=torch.uint8, pin_memory=True)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        _queue("hold", taken, int(most * 1e9), started.data_ptr())
    while int(started.sum()) < taken and not side.query():
        pass
    found = seconds(run)
    held = not side.query()
    side.synchronize()
    if not held:
        raise RuntimeError(f"the call took longer than the {most} s for which multiprocessors were held")
    return found

"""Where these tests run, and on which backends.

``ZOOMKERN_TEST_DEVICE=cpu`` lets draws and patches be compared without a GPU, to test the tests themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from zoomkern.ops import backends

DEVICE = torch.device(os.environ.get("ZOOMKERN_TEST_DEVICE", "cuda"))
BUSY = 1 << 31  # of a GPU's clock ticks, most of a second: longer than a call takes
COMPILED = ("cuda", "triton") if DEVICE.type == "cuda" else ("cpu", "triton")
THERE = DEVICE.type == "cpu" or torch.cuda.is_available()


def _parameter(backend: str) -> Any:
    on, reason = backends.explain()[backend]
    return pytest.param(backend, marks=pytest.mark.skip(reason=reason) if THERE and not on else ())


#: A test takes place on every compiled backend of the device; one that is off is skipped and says why.
each_backend = pytest.mark.parametrize("backend", [_parameter(name) for name in COMPILED])


def moved(value: Any, device: torch.device | str = DEVICE) -> Any:
    """A tensor, or all tensors in a dictionary, on another device; anything else as it is."""
    if isinstance(value, dict):
        return {name: moved(entry, device) for name, entry in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def transplanted(image: Tensor) -> Tensor:
    """The same pixels on the device, with the same strides over a copy of all the memory that the image views."""
    count = image.untyped_storage().nbytes() // image.itemsize
    memory = torch.empty(0, dtype=image.dtype).set_(image.untyped_storage(), 0, (count,), (1,))
    return memory.to(DEVICE).as_strided(image.shape, image.stride(), image.storage_offset())


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Whatever in torch waits for the GPU is an error in here; afterwards it is waited for."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()


def without_waiting(call: Callable[[], Any]) -> Any:
    """The result of a call that must not wait for the GPU; a first call loads what is loaded once.

    torch tells of its own waits only; who waits in any other way for the current stream finds it idle afterwards.
    """
    call()
    with nothing_waits():
        if DEVICE.type == "cuda":
            torch.cuda._sleep(BUSY)
        result = call()
        assert DEVICE.type != "cuda" or not torch.cuda.current_stream().query(), "the call waited for the GPU"
        return result

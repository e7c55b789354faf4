"""Memory for images: resident pages of exact size, rows that start on a line."""

from __future__ import annotations

import functools
import importlib
import mmap
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

#: Rows start on a line of this many bytes, so that one transfer serves one warp.
PITCH_BYTES = 128


@functools.cache
def host_module() -> ModuleType | None:
    """The compiled page memory ``zoomkern._host``, or None where it is not built."""
    try:
        return importlib.import_module("zoomkern._host")
    except ImportError:
        return None


class Memory(NamedTuple):
    """What an image's pixels lie in.

    Attributes:
        owner: What keeps the bytes, weakly: it goes when torch moves the tensor over them to shared memory. None for
            memory that is shared already and moves no more.
        mapped: Whether the bytes are a file's.
        writable: Whether the operating system lets this process write to them.
    """

    owner: weakref.ref[Any] | None = None
    mapped: bool = False
    writable: bool = True


def allocate(nbytes: int) -> Any:
    """A buffer of whole pages that nothing else lies in; resident from the start where ``zoomkern._host`` is built.

    Raises:
        MemoryError: The memory is not there.
    """
    host = host_module()
    if host is not None and nbytes <= sys.maxsize:
        return host.Pages(nbytes)
    try:
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"nbytes must fit in memory; got {nbytes}: {error}") from error


def allocate_image(shape: tuple[int, int, int], dtype: torch.dtype, interleaved: bool) -> tuple[Tensor, Memory]:
    """A ``[C, H, W]`` image, all zero, whose rows are padded to :data:`PITCH_BYTES`.

    Args:
        shape: ``(C, H, W)``, all positive.
        dtype: The pixel type.
        interleaved: Whether the channels of a pixel are neighbours (HWC) rather than planes (CHW).

    Raises:
        MemoryError: The memory is not there.
    """
    channels, height, width = shape
    row = width * channels if interleaved else width
    row_bytes = -(-row * dtype.itemsize // PITCH_BYTES) * PITCH_BYTES
    pitch = row_bytes // dtype.itemsize
    planes = 1 if interleaved else channels
    strides = (1, pitch, channels) if interleaved else (height * pitch, pitch, 1)
    pages = allocate(planes * height * row_bytes)
    return torch.frombuffer(pages, dtype=dtype).as_strided(shape, strides), Memory(weakref.ref(pages))


def is_interleaved(image: Tensor) -> bool:
    """Whether the channels of a pixel are neighbours in memory; a single channel or pixel counts as planes."""
    return image.shape[0] > 1 and image.stride(0) == 1 and not image.is_contiguous()

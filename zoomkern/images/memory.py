"""Memory for images: resident pages of exact size, rows that start on a line."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

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


def allocate(nbytes: int) -> Tensor:
    """CPU memory as a flat uint8 tensor, not initialised; pages of exact size where ``zoomkern._host`` is built.

    Raises:
        MemoryError: The memory is not there.
    """
    host = host_module()
    if host is not None:
        return torch.frombuffer(host.Pages(nbytes), dtype=torch.uint8)
    try:
        return torch.empty(nbytes, dtype=torch.uint8)
    except RuntimeError as error:
        raise MemoryError(f"nbytes must fit in memory; got {nbytes}: {error}") from error


def allocate_image(shape: tuple[int, int, int], dtype: torch.dtype, interleaved: bool) -> Tensor:
    """A ``[C, H, W]`` image, not initialised, whose rows are padded to :data:`PITCH_BYTES`.

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
    return allocate(planes * height * row_bytes).view(dtype).as_strided(shape, strides)


def is_interleaved(image: Tensor) -> bool:
    """Whether the channels of a pixel are neighbours in memory; a single channel or pixel counts as planes."""
    return image.shape[0] > 1 and image.stride(0) == 1 and not image.is_contiguous()

""".npy files, read at offsets rather than through a map."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.pixels import as_pixels, background, pixel_dtype
from zoomkern.images.readers.reader import Header, Reader


class _Array(NamedTuple):
    file: RawFile
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str  # a letter of "yxc" for each dimension, as they lie in the file


class ArrayReader(Reader):
    """One array of ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``: of three dimensions, the smaller end is channels.

    Integers of 8 or 16 bits with a sign become float32, those of 32 bits float64, bits 0 and 255. A file that is
    truncated while it is read gives an error.
    """

    def _open(self) -> _Array:
        file = RawFile(self.path)
        with self.path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            offset = stream.tell()
        axes = axes_of(shape)
        if fortran:
            shape, axes = shape[::-1], axes[::-1]
        end = offset + math.prod(shape) * dtype.itemsize
        if end > file.size:
            raise EOFError(f"{end} bytes are needed for shape {shape} of {dtype}, the file has {file.size}")
        return _Array(file, offset, shape, dtype, axes)

    def _read_header(self, handle: _Array) -> Header:
        sizes = dict(zip(handle.axes, handle.shape, strict=True))
        channels, dtype = sizes.get("c", 1), pixel_dtype(handle.dtype)
        size = (sizes["x"], sizes["y"])
        return Header((size,), channels, dtype, (None,), background=background(channels, dtype))

    def _read_window(self, handle: _Array, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        starts = {"y": y, "x": x, "c": 0}
        sizes = {"y": height, "x": width, "c": self.header.channels}
        block = handle.file.read_block(
            handle.offset,
            handle.shape,
            handle.dtype,
            tuple(starts[axis] for axis in handle.axes),
            tuple(sizes[axis] for axis in handle.axes),
        )
        return as_pixels(in_order(block, handle.axes))


def axes_of(shape: tuple[int, ...]) -> str:
    """``yx``, ``yxc`` or ``cyx``.

    Raises:
        ValueError: An image has neither so many nor so few dimensions.
    """
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        return "yxc" if shape[2] <= shape[0] else "cyx"
    raise ValueError(f"an image is [H, W], [H, W, C] or [C, H, W]; its shape is {tuple(shape)}")


def in_order(block: np.ndarray[Any, Any], axes: str) -> np.ndarray[Any, Any]:
    """``[H, W, C]`` of a block whose dimensions the letters name; others than ``yxc`` have one element."""
    kept = [axis for axis in axes if axis in "yxc"]
    block = block.reshape([size for size, axis in zip(block.shape, axes, strict=True) if axis in "yxc"])
    if "c" not in kept:
        block, kept = block[..., None], [*kept, "c"]
    return np.ascontiguousarray(block.transpose([kept.index(axis) for axis in "yxc"]))

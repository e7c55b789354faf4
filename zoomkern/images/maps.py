"""Memory maps as ``[C, H, W]`` tensors, without a copy.

Source:
    ``madvise(2)``: MADV_RANDOM keeps the kernel from reading ahead, by which it would map ten times the pages.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoomkern import checks
from zoomkern.images.arrays import as_planes, torch_dtype
from zoomkern.images.memory import host_module

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike
    from torch import Tensor

#: Keeps a private map of a large file from being charged against memory that it will not use.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def view_of_memmap(array: np.memmap[Any, Any], layout: str) -> tuple[Tensor, mmap.mmap]:
    """A ``[C, H, W]`` tensor over a caller's memory map, advised MADV_RANDOM, and the map itself.

    Raises:
        TypeError: The elements are of a type or byte order that no image has.
        ValueError: The array is no map any more, its strides are no tensor's, or its file was truncated.
    """
    mapping = _mapping_of(array)
    if mapping is None:
        raise ValueError("array_or_path must still be a view of its map; got a copy. Use PinnedImage.from_numpy.")
    planes = as_planes(array, layout)
    # A view keeps the offset of the map that it is cut from; the map itself starts at a multiple of the granularity.
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    first = np.frombuffer(mapping, dtype=np.uint8).ctypes.data
    last = planes.ctypes.data + sum(
        max((extent - 1) * stride, 0) for extent, stride in zip(planes.shape, planes.strides, strict=True)
    )
    end = start + last + array.itemsize - first
    _check_length(_file_size(mapping), end, array.shape, array.dtype, str(array.filename))
    view = _view(planes)
    _advise_random(mapping, array)
    return view, mapping


def view_of_file(
    path: Path, shape: tuple[int, ...] | None, dtype: DTypeLike | None, layout: str, offset: int
) -> tuple[Tensor, mmap.mmap]:
    """A ``[C, H, W]`` tensor over a file of raw pixels or an ``.npy`` file, advised MADV_RANDOM, and the map itself.

    The map is copy-on-write: what is written to the tensor never reaches the file.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: The elements are of a type or byte order that no image has.
        ValueError: Shape or type are missing, superfluous, or do not fit the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"array_or_path must name a file; got {str(path)!r}, which is none. Check the path.")
    order = "C"
    if path.suffix == ".npy":
        if shape is not None or dtype is not None or offset:
            raise ValueError(f"shape, dtype and offset must be left to the header of {str(path)!r}. Drop them.")
        shape, dtype, order, offset = npy_header(path)
    elif shape is None or dtype is None:
        raise ValueError(f"shape and dtype must be given for {str(path)!r}, a file of raw pixels. Name both.")
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a NumPy type; got {dtype!r}. Pass numpy.uint8, say.") from None
    torch_dtype(dtype, "dtype")
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"shape must be the sizes of the dimensions of layout {layout}; got {shape!r}.")
    shape = tuple(checks.integer(f"shape[{i}]", size, 1, sys.maxsize) for i, size in enumerate(shape))
    offset = checks.integer("offset", offset, 0, sys.maxsize)
    if offset % dtype.itemsize:
        raise ValueError(f"offset must be a multiple of {dtype.itemsize} bytes for {dtype}; got {offset}. Correct it.")
    end = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    _check_length(path.stat().st_size, end, tuple(shape), dtype, str(path))
    with path.open("rb") as file:
        flags, prot = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        mapping = mmap.mmap(file.fileno(), end, flags=flags, prot=prot)
    array = np.frombuffer(mapping, dtype=np.uint8)[offset:].view(dtype)
    array = array.reshape(shape, order="F" if order == "F" else "C")
    view = _view(as_planes(array, layout))
    _advise_random(mapping, array)
    return view, mapping


def npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], str, int]:
    """Shape, type, order and offset of the pixels of an ``.npy`` file."""
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"array_or_path must be a whole .npy file of numbers; got {str(path)!r}: {error}. Save it again."
        ) from error
    if not isinstance(array, np.memmap):
        raise ValueError(
            f"array_or_path must be an .npy file; got {str(path)!r}, an archive. Save one array by numpy.save."
        )
    return array.shape, array.dtype, "C" if array.flags.c_contiguous else "F", array.offset


def _check_length(there: int, needed: int, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Reading behind the end of a mapped file would end the process."""
    if there < needed:
        raise ValueError(
            f"array_or_path must hold {needed} bytes for shape {shape} of {dtype}; got {name!r} of {there} bytes. "
            "Correct shape, dtype and offset, or restore the file if it was truncated."
        )


def check_whole(mapping: mmap.mmap) -> None:
    """A mapped file must not have become shorter: what is missing would end the process when it is read.

    Raises:
        ValueError: It has.
    """
    there = _file_size(mapping)
    if there < len(mapping):
        raise ValueError(
            f"images must keep their files: {len(mapping)} bytes were mapped, the file now has {there}. Map it again."
        )


def _file_size(mapping: mmap.mmap) -> int:
    """The present size of the file behind a map; for a map of no file, what its own length allows."""
    try:
        return mapping.size()
    except (OSError, ValueError):
        return sys.maxsize


def _mapping_of(array: np.ndarray[Any, Any]) -> mmap.mmap | None:
    """The memory map that an array is a view of, or None."""
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base


def _view(planes: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over an array's own memory, which it keeps alive.

    Unlike ``torch.from_numpy`` it takes read-only memory in silence, and such memory stays read-only: the operating
    system ends a process that writes to it.
    """
    dtype = torch_dtype(planes.dtype, "array")
    size = dtype.itemsize
    copy = "Copy it with PinnedImage.from_numpy"
    if not planes.dtype.isnative:
        raise TypeError(f"array must have this machine's byte order; got {planes.dtype!r}. {copy}.")
    if any(stride < 0 or stride % size for stride in planes.strides) or planes.ctypes.data % size:
        raise ValueError(
            f"array must have aligned addresses and no negative strides; got strides {planes.strides} bytes "
            f"for {planes.dtype} at {planes.ctypes.data:#x}. {copy}."
        )
    strides = [stride // size for stride in planes.strides]
    count = 1 + sum((extent - 1) * stride for extent, stride in zip(planes.shape, strides, strict=True))
    memory = (ctypes.c_char * (count * size)).from_address(planes.ctypes.data)
    memory.owner = planes  # torch keeps the buffer, the buffer keeps the array
    return torch.frombuffer(memory, dtype=dtype).as_strided(planes.shape, strides)


def _advise_random(mapping: mmap.mmap, array: np.ndarray[Any, Any]) -> None:
    host = host_module()
    if host is not None:
        host.advise_random(array)
    elif hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)

"""Zarr arrays and OME-Zarr pyramids, versions 2 and 3, in folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.arrays import axes_of, in_order
from zoomkern.images.readers.chunks import Chunks, chunks_of
from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.ngff import axes_of_multiscale, mpp_of_multiscale, multiscale_of, with_own
from zoomkern.images.readers.pixels import as_pixels, background, pixel_dtype
from zoomkern.images.readers.reader import MAX_TILE_BYTES, Header, Reader
from zoomkern.images.readers.tiles import Window, assemble, slices

#: Files of which a folder has one if it is a Zarr array or group.
_MARKS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / mark).is_file() for mark in _MARKS)


class _Level(NamedTuple):
    array: Any
    axes: str
    chunks: Chunks


class _Zarr(NamedTuple):
    levels: tuple[_Level, ...]
    mpp: float | None
    attributes: Mapping[str, Any]  # of the group


class ZarrReader(Reader):
    """A Zarr array of ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``, or an OME-Zarr image (NGFF 0.4 or 0.5).

    Of three dimensions that have no names the smaller end is channels; depth and time must have one plane. Chunks that
    the folder leaves out have the array's fill value. Integers of 8 or 16 bits with a sign become float32, those of
    32 bits float64, bits 0 and 255.
    """

    def _open(self) -> _Zarr:
        zarr = library("zarr", "slides")
        node = zarr.open(str(self.path), mode="r")
        if isinstance(node, zarr.Array):
            return _Zarr((_level(node, _plain_axes(node), self.path),), None, {})
        group = node if multiscale_of(node.attrs) or "0" not in node else node["0"]  # bioformats2raw puts series below
        multiscale = multiscale_of(group.attrs)
        if multiscale is None:
            raise ValueError("it is a group without multiscales; name one of its arrays")
        axes = axes_of_multiscale(multiscale)
        levels = []
        for dataset in multiscale["datasets"]:
            array = group[str(dataset["path"])]
            if not isinstance(array, zarr.Array):
                raise ValueError(f"its level {dataset['path']!r} is no array")
            levels.append(_level(array, axes, self.path / array.path))
        return _Zarr(tuple(levels), mpp_of_multiscale(multiscale), group.attrs)

    def _read_header(self, handle: _Zarr) -> Header:
        finest = handle.levels[0]
        channels, dtype = _extent(finest, "c"), pixel_dtype(finest.array.dtype)
        for level in handle.levels:
            if (_extent(level, "c"), level.array.dtype) != (channels, finest.array.dtype):
                raise ValueError("its levels differ in channels or type")
        header = Header(
            tuple((_extent(level, "x"), _extent(level, "y")) for level in handle.levels),
            channels,
            dtype,
            tuple(level.chunks.tile if level.chunks.whole else None for level in handle.levels),
            mpp=handle.mpp,
            background=background(channels, dtype),
        )
        return with_own(header, handle.attributes)

    def _tile_bytes(self, handle: _Zarr, level: int, row: int, column: int) -> bytes | None:
        return handle.levels[level].chunks.read(row, column)

    def _decode_tile(self, handle: _Zarr, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        _, axes, chunks = handle.levels[level]
        return as_pixels(in_order(chunks.decode(data), axes))

    def _read_window(self, handle: _Zarr, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        _, axes, chunks = handle.levels[level]

        def read(row: int, column: int, part: Window) -> np.ndarray[Any, Any]:
            return as_pixels(in_order(chunks.block(row, column), axes))[slices(part)]

        return assemble((y, x, height, width), chunks.tile, read)


def _level(array: Any, axes: str, folder: Path) -> _Level:
    """One array, whose chunks must be bounded.

    Raises:
        ValueError: Its dimensions are not its axes, it has several planes, or chunks beyond any memory.
    """
    if len(array.shape) != len(axes):
        raise ValueError(f"its shape {array.shape} does not have the axes {axes!r}")
    for size, axis in zip(array.shape, axes, strict=True):
        if axis not in "yxc" and size != 1:
            raise ValueError(f"it has {size} planes along {axis!r}; export one of them")
    nbytes = math.prod(array.chunks) * np.dtype(array.dtype).itemsize
    if nbytes > MAX_TILE_BYTES:
        raise ValueError(f"its chunks take {nbytes} bytes, beyond {MAX_TILE_BYTES}; write it with smaller ones")
    return _Level(array, axes, chunks_of(array, axes, folder))


def _plain_axes(array: Any) -> str:
    """The axes of an array by the names of its dimensions, where it has some, else by its shape."""
    names = getattr(array.metadata, "dimension_names", None)
    if names and all(names) and set("yx") <= set(names) <= set("tczyx"):
        return "".join(names)
    return axes_of(array.shape)


def _extent(level: _Level, axis: str) -> int:
    return int(level.array.shape[level.axes.index(axis)]) if axis in level.axes else 1

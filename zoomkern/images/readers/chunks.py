"""Chunks of a Zarr array that are read and decoded one by one, by any thread, without the library's event loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.libraries import library

#: Codecs that are given the size of their result, as imagecodecs names them, by Zarr's names.
_CODECS = {"blosc": "blosc", "gzip": "gzip", "zlib": "zlib", "zstd": "zstd", "bz2": "bz2"}


class Chunks(NamedTuple):
    """The chunks of one array.

    Args:
        folder: of the array.
        key: of the indices of a chunk, its path below the folder.
        axes: a letter for each dimension.
        shape: of a chunk.
        dtype: of a chunk, in its byte order.
        order: ``C`` or ``F``.
        codec: imagecodecs' name of the compression, None for none.
        fill: the value of chunks that are not there.
    """

    folder: Path
    key: Callable[[tuple[int, ...]], str]
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    codec: str | None
    fill: Any

    @property
    def tile(self) -> tuple[int, int]:
        """``(height, width)`` of a chunk."""
        return self.shape[self.axes.index("y")], self.shape[self.axes.index("x")]

    def read(self, row: int, column: int) -> bytes | None:
        """A chunk's file; None where there is none."""
        places = {"y": row, "x": column}
        path = self.folder / self.key(tuple(places.get(axis, 0) for axis in self.axes))
        try:
            file = RawFile(path)
        except FileNotFoundError:
            return None
        return file.read(0, file.size)

    def decode(self, data: bytes | None) -> np.ndarray[Any, Any]:
        """``[*shape]`` in the machine's byte order.

        Raises:
            Exception: The bytes are no such chunk.
        """
        if data is None:
            return np.full(self.shape, 0 if self.fill is None else self.fill, self.dtype.newbyteorder("="))
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        if self.codec is not None:
            data = getattr(library("imagecodecs", "slides"), f"{self.codec}_decode")(data, out=nbytes)
        if data is None or len(data) != nbytes:
            raise ValueError(f"a chunk has {len(data or b'')} bytes instead of {nbytes}")
        chunk = np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.order == "F" else "C")
        return chunk.astype(self.dtype.newbyteorder("="), copy=False)


def chunks_of(array: Any, axes: str, folder: Path) -> Chunks | None:
    """The chunks of an array; None where one has not all channels, or it is a shard, filtered or otherwise encoded."""
    whole = all(
        chunk >= size for chunk, size, axis in zip(array.chunks, array.shape, axes, strict=True) if axis not in "yx"
    )
    exact = all(chunk == size for chunk, size, axis in zip(array.chunks, array.shape, axes, strict=True) if axis == "c")
    if not whole or not exact or array.shards is not None:
        return None
    found = _codec(array)
    if found is None:
        return None
    codec, dtype, order = found
    metadata = array.metadata
    return Chunks(folder, metadata.encode_chunk_key, axes, tuple(array.chunks), dtype, order, codec, array.fill_value)


def _codec(array: Any) -> tuple[str | None, np.dtype[Any], str] | None:
    """Name of the compression or None for none, type in its byte order, memory order; None where it is another one."""
    metadata, dtype = array.metadata, np.dtype(array.dtype)
    if metadata.zarr_format == 2:
        if metadata.filters:
            return None
        name = None if metadata.compressor is None else str(metadata.compressor.get_config()["id"])
        order = str(metadata.order)
    else:
        encoded, *rest = [codec.to_dict() for codec in metadata.codecs]
        if encoded["name"] != "bytes" or len(rest) > 1:
            return None
        big = encoded.get("configuration", {}).get("endian") == "big"
        dtype, order = dtype.newbyteorder(">" if big else "<"), "C"
        name = str(rest[0]["name"]) if rest else None
    return None if name is not None and name not in _CODECS else (_CODECS.get(name or ""), dtype, order)

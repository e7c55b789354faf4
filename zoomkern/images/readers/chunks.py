"""Chunks of a Zarr array that are read and decoded one by one, by any thread, without the library's event loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.libraries import library

#: Codecs that are given the size of their result, as imagecodecs names them, by Zarr's names.
_COMPRESSIONS = {"blosc": "blosc", "gzip": "gzip", "zlib": "zlib", "zstd": "zstd", "bz2": "bz2"}

_CRC_BYTES = 4
_LEFT_OUT = 2**64 - 1  # where a shard's index says that a chunk starts which is not there


class Encoding(NamedTuple):
    """How the pixels of a chunk become bytes.

    Args:
        dtype: in its byte order.
        order: of the dimensions, as they lie in the file.
        compression: imagecodecs' name, None for none.
        checked: whether a CRC-32C stands behind the bytes.
    """

    dtype: np.dtype[Any]
    order: tuple[int, ...]
    compression: str | None
    checked: bool

    def decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """``[*shape]`` in the machine's byte order; no more is decoded than that.

        Raises:
            Exception: The bytes are no such chunk.
        """
        if self.checked:
            data = _checked(data)
        nbytes = math.prod(shape) * self.dtype.itemsize
        if self.compression is not None:
            data = getattr(library("imagecodecs", "slides"), f"{self.compression}_decode")(data, out=nbytes)
        if data is None or len(data) != nbytes:
            raise ValueError(f"a chunk has {len(data or b'')} bytes instead of {nbytes}")
        chunk = np.frombuffer(data, self.dtype).reshape([shape[axis] for axis in self.order])
        return chunk.transpose(np.argsort(self.order)).astype(self.dtype.newbyteorder("="), copy=False)


class Chunks(NamedTuple):
    """The chunks of one array.

    Args:
        folder: of the array.
        key: of the indices of a file of chunks, its path below the folder.
        axes: a letter for each dimension.
        extents: of the array.
        shape: of a chunk.
        encoding: of a chunk.
        fill: the value of chunks that are not there.
        shard: how many chunks a file has along each dimension, None where each has a file of its own.
        index_first: whether a shard begins with its index instead of ending with it.
    """

    folder: Path
    key: Callable[[tuple[int, ...]], str]
    axes: str
    extents: tuple[int, ...]
    shape: tuple[int, ...]
    encoding: Encoding
    fill: Any
    shard: tuple[int, ...] | None
    index_first: bool

    @property
    def tile(self) -> tuple[int, int]:
        """``(height, width)`` of a chunk."""
        return self.shape[self.axes.index("y")], self.shape[self.axes.index("x")]

    @property
    def planes(self) -> int:
        """Chunks along the channels."""
        return 1 if "c" not in self.axes else -(-self._along_channels(self.extents) // self._along_channels(self.shape))

    @property
    def whole(self) -> bool:
        """Whether a chunk has all channels, and no more."""
        return "c" not in self.axes or self._along_channels(self.extents) == self._along_channels(self.shape)

    def read(self, row: int, column: int, plane: int = 0) -> bytes | None:
        """A chunk as the file has it; None where there is none."""
        places = {"y": row, "x": column, "c": plane}
        chunk = tuple(places.get(axis, 0) for axis in self.axes)
        if self.shard is None:
            file = self._file(chunk)
            return None if file is None else file.read(0, file.size)
        file = self._file(tuple(place // count for place, count in zip(chunk, self.shard, strict=True)))
        if file is None:
            return None
        size = 16 * math.prod(self.shard)
        index = _checked(file.read(0 if self.index_first else file.size - size - _CRC_BYTES, size + _CRC_BYTES))
        inside = tuple(place % count for place, count in zip(chunk, self.shard, strict=True))
        start, count = np.frombuffer(index, "<u8").reshape(*self.shard, 2)[inside].tolist()
        return None if start == count == _LEFT_OUT else file.read(start, count)

    def decode(self, data: bytes | None) -> np.ndarray[Any, Any]:
        """``[*shape]`` in the machine's byte order.

        Raises:
            Exception: The bytes are no such chunk.
        """
        if data is None:
            return np.full(self.shape, 0 if self.fill is None else self.fill, self.encoding.dtype.newbyteorder("="))
        return self.encoding.decode(data, self.shape)

    def block(self, row: int, column: int) -> np.ndarray[Any, Any]:
        """All channels of a chunk's place, in the order of the axes."""
        parts = [self.decode(self.read(row, column, plane)) for plane in range(self.planes)]
        if self.whole:
            return parts[0]
        axis = self.axes.index("c")
        return np.concatenate(parts, axis)[(slice(None),) * axis + (slice(self.extents[axis]),)]

    def _along_channels(self, sizes: tuple[int, ...]) -> int:
        return sizes[self.axes.index("c")]

    def _file(self, place: tuple[int, ...]) -> RawFile | None:
        try:
            return RawFile(self.folder / self.key(place))
        except FileNotFoundError:
            return None


def chunks_of(array: Any, axes: str, folder: Path) -> Chunks:
    """The chunks of an array.

    Raises:
        ValueError: They are encoded in a way that is not read here.
    """
    metadata, shape = array.metadata, tuple(array.chunks)
    shard, index_first = None, False
    if metadata.zarr_format == 2:
        if metadata.filters:
            raise ValueError(f"its filters {metadata.filters} are not read; write it without")
        compression = metadata.compressor and _compression(metadata.compressor.get_config()["id"])
        places = tuple(range(len(shape)))
        order = places[::-1] if str(metadata.order) == "F" else places
        encoding = Encoding(np.dtype(array.dtype), order, compression, False)
    else:
        codecs = [codec.to_dict() for codec in metadata.codecs]
        if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
            said = codecs[0]["configuration"]
            names = [codec["name"] for codec in said["index_codecs"]]
            if names != ["bytes", "crc32c"] or said["index_codecs"][0]["configuration"]["endian"] != "little":
                raise ValueError(f"the index of its shards is encoded by {', '.join(names)}, which is not read")
            shard = tuple(whole // part for whole, part in zip(array.shards, shape, strict=True))
            codecs, index_first = list(said["codecs"]), said["index_location"] == "start"
        encoding = _encoding(codecs, np.dtype(array.dtype), len(shape))
    extents, key = tuple(array.shape), metadata.encode_chunk_key
    return Chunks(folder, key, axes, extents, shape, encoding, array.fill_value, shard, index_first)


def _encoding(codecs: Sequence[Mapping[str, Any]], dtype: np.dtype[Any], dimensions: int) -> Encoding:
    """From Zarr 3's codecs: an order of the dimensions, bytes, a compression, a checksum, of which bytes must be."""
    left = [*codecs]

    def take(*names: str) -> Mapping[str, Any] | None:
        return left.pop(0) if left and left[0]["name"] in names else None

    turned, stored, compressed, checked = (
        take("transpose"), take("bytes"), take(*_COMPRESSIONS), take("crc32c"),
    )  # fmt: skip
    if left or stored is None:
        raise ValueError(
            f"it is encoded by {', '.join(codec['name'] for codec in codecs)}, where at most transpose, bytes, one of "
            f"{', '.join(_COMPRESSIONS)} and crc32c are read; write it so"
        )
    big = stored.get("configuration", {}).get("endian") == "big"
    order = tuple(turned["configuration"]["order"]) if turned else tuple(range(dimensions))
    compression = None if compressed is None else _compression(compressed["name"])
    return Encoding(dtype.newbyteorder(">" if big else "<"), order, compression, checked is not None)


def _compression(name: str) -> str:
    if name not in _COMPRESSIONS:
        raise ValueError(f"its compression {name!r} is none of {', '.join(_COMPRESSIONS)}; write it with one of them")
    return _COMPRESSIONS[name]


def _checked(data: bytes) -> bytes:
    """Without its CRC-32C.

    Raises:
        ValueError: It is not that of the bytes.
    """
    body, said = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    if library("google_crc32c", "slides").value(body) != said:
        raise ValueError("the checksum of a chunk is wrong")
    return body

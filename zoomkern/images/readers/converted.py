"""zoomkern's own copy of an image: raw tiles in one file, so that a patch is a few short reads and no decoding.

The file, little-endian:

1. 64 bytes: :data:`MAGIC`; the length of the header; the length of the file; CRC-32 of header and tables; zeros.
2. The header, JSON: ``version``, ``tile`` (side in pixels), ``levels`` (``[width, height]`` from the finest),
   ``channels``, ``dtype``, ``background``, ``mpp``, ``nodata``, ``transform``, ``crs``, ``properties``.
3. Zeros up to a multiple of 4096 bytes, then a table per level: an int64 for each tile, row by row, where its pixels
   start in the file; 0 for a tile that is all background, which has none.
4. The tiles, raw ``[tile, tile, C]``, filled up with background at the right and bottom edges.

The 64 bytes are written last: a file that begins otherwise is not whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from zoomkern.images.readers.files import MappedFile
from zoomkern.images.readers.ngff import with_own
from zoomkern.images.readers.reader import Header, Reader, numpy_type
from zoomkern.typing import PIXEL_DTYPES

MAGIC = b"zoomkern image\r\n"
VERSION = 1
HEAD_BYTES = 64
#: A header beyond this lies.
MAX_HEADER_BYTES = 1 << 24
_PAGE = 4096
_HEAD = struct.Struct("<16sQQQ")


class Layout(NamedTuple):
    """Where everything is in the file.

    Args:
        header: the image.
        tile: side of a tile in pixels.
        text: the header as the file has it.
    """

    header: Header
    tile: int
    text: bytes

    @classmethod
    def of(cls, header: Header, tile: int) -> Layout:
        """The layout of a new file; the image's tiles are those of the file."""
        header = header._replace(tile_sizes=((tile, tile),) * len(header.level_dimensions))
        said = {
            "version": VERSION,
            "tile": tile,
            "levels": header.level_dimensions,
            "channels": header.channels,
            "dtype": str(header.dtype).removeprefix("torch."),
            "background": header.background,
            "mpp": header.mpp,
            "nodata": header.nodata,
            "transform": header.transform,
            "crs": header.crs,
            "properties": dict(header.properties),
        }
        return cls(header, tile, json.dumps(said).encode())

    @classmethod
    def parse(cls, text: bytes) -> Layout:
        """The layout that a file's header tells.

        Raises:
            ValueError: another version wrote it, or it makes no sense.
        """
        said = json.loads(text)
        if said["version"] != VERSION:
            raise ValueError(
                f"its format is version {said['version']}, this zoomkern reads {VERSION}; convert it again"
            )
        dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in PIXEL_DTYPES if dtype != torch.bfloat16}
        tile, sizes = int(said["tile"]), tuple((int(width), int(height)) for width, height in said["levels"])
        if any(low > high for finer, coarser in pairwise(sizes) for high, low in zip(finer, coarser, strict=True)):
            raise ValueError("its levels grow")
        tiles = ((tile, tile),) * len(sizes)
        header = with_own(Header(sizes, int(said["channels"]), dtypes[said["dtype"]], tiles), {"zoomkern": said})
        return cls(header, tile, text)

    @property
    def tile_bytes(self) -> int:
        """Bytes of one tile."""
        return self.tile**2 * self.header.channels * self.header.dtype.itemsize

    def grid(self, level: int) -> tuple[int, int]:
        """``(rows, columns)`` of tiles of a level."""
        width, height = self.header.level_dimensions[level]
        return -(-height // self.tile), -(-width // self.tile)

    def table_start(self, level: int) -> int:
        """Where a level's table starts; with the number of levels, where the tables end."""
        start = -(-(HEAD_BYTES + len(self.text)) // _PAGE) * _PAGE
        return start + sum(8 * rows * columns for rows, columns in map(self.grid, range(level)))

    @property
    def data_start(self) -> int:
        """Where the first tile starts."""
        return -(-self.table_start(len(self.header.level_dimensions)) // _PAGE) * _PAGE

    def head(self, length: int, tables: bytes) -> bytes:
        """The first bytes of a whole file of ``length`` bytes."""
        return _HEAD.pack(MAGIC, len(self.text), length, _check(self.text, tables)).ljust(HEAD_BYTES, b"\0")


class _Copy(NamedTuple):
    file: MappedFile
    layout: Layout
    tables: list[np.ndarray[Any, Any]]  # of each level [rows, columns] int64


class ConvertedReader(Reader):
    """What ``zoomkern convert`` wrote.

    A file that is truncated while it is read gives an error and no signal; what the first bytes, the header and the
    tables say is checked when the file is opened.

    Memory:
        8 bytes for each tile of the image.
    """

    decodes = False

    def is_empty(self, level: int, y: int, x: int, height: int, width: int) -> bool:
        """Whether a window inside the level is all background, which the file leaves out."""
        with self._reading():
            copy = self._handle()
        side = copy.layout.tile
        rows, columns = slice(y // side, -(-(y + height) // side)), slice(x // side, -(-(x + width) // side))
        return not copy.tables[level][rows, columns].any()

    def _open(self) -> _Copy:
        file = MappedFile(self.path)
        magic, length, whole, check = _HEAD.unpack(file.read(0, HEAD_BYTES)[: _HEAD.size])
        if magic != MAGIC:
            raise ValueError("it is no copy that zoomkern has finished")
        if whole != file.size:
            raise EOFError(f"it should have {whole} bytes and has {file.size}")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header of {length} bytes is beyond {MAX_HEADER_BYTES}")
        layout = Layout.parse(file.read(HEAD_BYTES, length))
        count = len(layout.header.level_dimensions)
        if min(layout.tile, layout.header.channels, *(min(size) for size in layout.header.level_dimensions)) < 1:
            raise ValueError("its tiles or levels have no pixels")
        start = layout.table_start(0)
        tables = file.read(start, layout.table_start(count) - start)
        if _check(layout.text, tables) != check:
            raise ValueError("its header or tables were changed")
        found = np.frombuffer(tables, "<i8").astype(np.int64, copy=False)
        if ((found != 0) & ((found < layout.data_start) | (found > whole - layout.tile_bytes))).any():
            raise ValueError("its tables point out of it")
        ends = np.cumsum([rows * columns for rows, columns in map(layout.grid, range(count))])[:-1]
        parts = [part.reshape(layout.grid(level)) for level, part in enumerate(np.split(found, ends))]
        return _Copy(file, layout, parts)

    def _read_header(self, handle: _Copy) -> Header:
        return handle.layout.header

    def _read_window(self, handle: _Copy, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        layout, table = handle.layout, handle.tables[level]
        side, dtype = layout.tile, numpy_type(layout.header.dtype)
        starts = table[y // side : -(-(y + height) // side), x // side : -(-(x + width) // side)]
        window = np.empty((height, width, layout.header.channels), dtype)
        if not starts.all():
            window[...] = layout.header.background
        if handle.file.copy_tiles(window, starts, side, y % side, x % side):
            return window
        return read_window(handle.file.read, layout, table, y, x, height, width)

    def _tile_bytes(self, handle: _Copy, level: int, row: int, column: int) -> bytes | None:
        start = int(handle.tables[level][row, column])
        return handle.file.read(start, handle.layout.tile_bytes) if start else None

    def _decode_tile(self, handle: _Copy, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        header, tile = handle.layout.header, handle.layout.tile
        shape = (tile, tile, header.channels)
        if data is None:
            return np.full(shape, header.background, numpy_type(header.dtype))
        return np.frombuffer(data, numpy_type(header.dtype).newbyteorder("<")).reshape(shape)


def read_window(
    read: Callable[[int, int], bytes],
    layout: Layout,
    table: np.ndarray[Any, Any],
    y: int,
    x: int,
    height: int,
    width: int,
) -> np.ndarray[Any, Any]:
    """``[height, width, C]`` of a window inside the level of that table.

    Of each tile the rows under the window are read at once, as they lie in the file; ``read`` takes a place in it and a
    number of bytes.
    """
    header, side = layout.header, layout.tile
    dtype = numpy_type(header.dtype)
    pitch = side * header.channels * dtype.itemsize
    window = np.empty((height, width, header.channels), dtype)
    rows, columns = range(y // side, -(-(y + height) // side)), range(x // side, -(-(x + width) // side))
    starts = table[rows.start : rows.stop, columns.start : columns.stop].tolist()
    for row, in_row in zip(rows, starts, strict=True):
        top, bottom = max(row * side, y), min((row + 1) * side, y + height)
        for column, start in zip(columns, in_row, strict=True):
            left, right = max(column * side, x), min((column + 1) * side, x + width)
            part = window[top - y : bottom - y, left - x : right - x]
            if not start:
                part[...] = header.background
                continue
            data = read(start + (top - row * side) * pitch, (bottom - top) * pitch)
            pixels = np.frombuffer(data, dtype.newbyteorder("<")).reshape(bottom - top, side, header.channels)
            part[...] = pixels[:, left - column * side : right - column * side]
    return window


def _check(text: bytes, tables: bytes) -> int:
    return zlib.crc32(tables, zlib.crc32(text))

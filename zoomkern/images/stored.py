"""Levels whose pixels are read when they are asked for: from a file, from tiles of one, from a finer level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern.images.readers import Reader
from zoomkern.images.readers.reader import numpy_type
from zoomkern.images.readers.tiles import parts_of, slices
from zoomkern.images.tiles import TileCache

Pixels = np.ndarray[Any, Any]


class StoredLevel(ABC):
    """A level that is not in memory. ``read`` may be called by many threads at once.

    Attributes:
        shape: ``[C, H, W]``.
        dtype: the pixel type.
    """

    shape: torch.Size
    dtype: torch.dtype
    device = torch.device("cpu")
    requires_grad = False

    @abstractmethod
    def read(self, y: int, x: int, height: int, width: int) -> Pixels:
        """``[height, width, C]`` of a window that lies inside the level.

        Raises:
            ReadError: the file is damaged there.
        """

    def whole(self) -> Tensor:
        """``[C, H, W]`` of all pixels."""
        return torch.from_numpy(self.read(0, 0, self.shape[1], self.shape[2])).permute(2, 0, 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self.shape)}, {self.dtype})"


class FileLevel(StoredLevel):
    """A level that its reader reads window by window.

    Args:
        reader: of the file.
        level: which one.
    """

    def __init__(self, reader: Reader, level: int) -> None:
        width, height = reader.level_dimensions[level]
        self.reader = reader
        self.level = level
        self.shape = torch.Size((reader.header.channels, height, width))
        self.dtype = reader.header.dtype

    def read(self, y: int, x: int, height: int, width: int) -> Pixels:
        """As :meth:`StoredLevel.read`."""
        return self.reader.read_window(self.level, y, x, height, width)


class TiledLevel(FileLevel):
    """A level of tiles that are decoded one by one and kept in a cache.

    Args:
        reader: of the file, which knows tiles at that level.
        level: which one.
        cache: keeps decoded tiles.
        resident: read all tiles now and keep them as the file has them, compressed.
        decoder: of JPEG tiles whose patches are read: ``imagecodecs`` or ``nvimgcodec``.

    Memory:
        The cache, and where ``resident`` the level's bytes in the file.
    """

    def __init__(
        self, reader: Reader, level: int, cache: TileCache, resident: bool = False, decoder: str = "imagecodecs"
    ) -> None:
        super().__init__(reader, level)
        self.decoder = decoder
        size = reader.header.tile_sizes[level]
        if size is None:
            raise ValueError(f"level {level} of {reader.name} must have tiles of its own; it has none.")
        self.tile_size = size
        self.cache = cache
        self._file = (*reader.identity, level)
        rows, columns = (-(-extent // side) for extent, side in zip(self.shape[1:], size, strict=True))
        self.resident: dict[tuple[int, int], bytes | None] | None = None
        if resident:
            places = [(row, column) for row in range(rows) for column in range(columns)]
            self.resident = {place: reader.tile_bytes(level, *place) for place in places}

    def read(self, y: int, x: int, height: int, width: int) -> Pixels:
        """As :meth:`StoredLevel.read`; only the tiles under the window are decoded."""
        window = np.empty((height, width, self.shape[0]), numpy_type(self.dtype))
        for row, column, part, target in parts_of((y, x, height, width), self.tile_size):
            tile = self.cache.get((*self._file, row, column), partial(self._decoded, row, column))
            window[slices(target)] = tile[slices(part)]
        return window

    def tile_bytes(self, row: int, column: int) -> bytes | None:
        """A tile as the file has it; None for one that the file leaves out."""
        if self.resident is not None:
            return self.resident[row, column]
        return self.reader.tile_bytes(self.level, row, column)

    def _decoded(self, row: int, column: int) -> Pixels:
        return self.reader.decode_tile(self.level, self.tile_bytes(row, column))


class ReducedLevel(StoredLevel):
    """A level made of a finer one as it is read: every pixel is the mean of ``factor`` x ``factor`` pixels.

    Integers are rounded to nearest, halves to even. At the last row and column the mean is over the pixels that are
    there, so that the level has ``ceil(H / factor)`` rows.

    Args:
        finer: ``[C, H, W]``, in memory or stored.
        factor: at least 2.
    """

    def __init__(self, finer: Tensor | StoredLevel, factor: int) -> None:
        self.finer = finer
        self.factor = factor
        channels, height, width = finer.shape
        self.shape = torch.Size((channels, -(-height // factor), -(-width // factor)))
        self.dtype = finer.dtype

    def read(self, y: int, x: int, height: int, width: int) -> Pixels:
        """As :meth:`StoredLevel.read`; reads ``factor * factor`` as many pixels, in blocks of whole tiles."""
        result = np.empty((height, width, self.shape[0]), numpy_type(self.dtype))
        tall, wide = getattr(self.finer, "tile_size", (1, 1))
        pixels = _BLOCK_PIXELS // self.factor**2
        rows = _whole(tall, self.factor, pixels // width)
        columns = _whole(wide, self.factor, pixels // rows)
        for top in _starts(y, height, rows):
            bottom = min((top // rows + 1) * rows, y + height)
            for left in _starts(x, width, columns):
                right = min((left // columns + 1) * columns, x + width)
                result[top - y : bottom - y, left - x : right - x] = self._block(top, left, bottom - top, right - left)
        return result

    def _block(self, y: int, x: int, height: int, width: int) -> Pixels:
        k = self.factor
        bottom, right = min((y + height) * k, self.finer.shape[1]), min((x + width) * k, self.finer.shape[2])
        pixels = window_of(self.finer, y * k, x * k, bottom - y * k, right - x * k)
        exact = np.int64 if pixels.dtype.kind == "u" else np.float64
        total = np.add.reduceat(pixels, np.arange(0, pixels.shape[1], k), axis=1, dtype=exact)
        total = np.add.reduceat(total, np.arange(0, pixels.shape[0], k), axis=0)
        counts = [np.minimum(k, extent - np.arange(0, extent, k)) for extent in pixels.shape[:2]]
        share = total / np.outer(*counts)[:, :, None]
        return (np.rint(share) if pixels.dtype.kind == "u" else share).astype(pixels.dtype)


def window_of(image: Tensor | StoredLevel, y: int, x: int, height: int, width: int) -> Pixels:
    """``[height, width, C]`` of a window that lies inside an image in memory or a stored one."""
    if isinstance(image, StoredLevel):
        return image.read(y, x, height, width)
    return image[:, y : y + height, x : x + width].permute(1, 2, 0).numpy()


def _whole(side: int, factor: int, most: int) -> int:
    """Pixels of a reduced level, of whole tiles of ``side`` of the finer one: at least one, else ``most`` about."""
    tile = max(-(-side // factor), 1)
    return max(most // tile, 1) * tile


def _starts(first: int, count: int, block: int) -> list[int]:
    """Where the blocks of a window begin: at its first pixel, and then at multiples of ``block``."""
    return [first, *range((first // block + 1) * block, first + count, block)]


#: Pixels of the finer level that are held at a time, about; a tile at least.
_BLOCK_PIXELS = 1 << 22

"""What every format of a copy implements."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from zoomkern.images.readers.reader import Header

Pixels = np.ndarray[Any, Any]


@runtime_checkable
class Sparse(Protocol):
    """An image that knows, without reading, where it is all background."""

    def is_empty(self, level: int, y: int, x: int, height: int, width: int) -> bool:
        """Whether a window inside the level holds nothing but background; False where that is not known."""


class Writer(ABC):
    """A copy that is being made: blocks are written one by one, and may be read again for the coarser levels.

    Args:
        path: of the unfinished copy, which is not there yet or was left by a process that ended.
        header: of the copy, all levels.
        tile: side of a tile in pixels.
    """

    #: What it writes is a folder.
    is_folder = False
    #: What it imports, of the extra ``slides``.
    libraries: tuple[str, ...] = ()

    def __init__(self, path: Path, header: Header, tile: int) -> None:
        self.path = path
        self.header = header
        self.tile = tile

    @abstractmethod
    def start(self, mark: int | None) -> None:
        """Begin anew, or go on where :meth:`mark` was told; what was written after that will be written again."""

    @abstractmethod
    def write(self, level: int, y: int, x: int, pixels: Pixels) -> None:
        """``[h, w, C]`` at a multiple of the tile's side; called from one thread, in the same order by every run."""

    @abstractmethod
    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """``[height, width, C]`` of what was written; called by threads."""

    @abstractmethod
    def is_empty(self, level: int, y: int, x: int, height: int, width: int) -> bool:
        """Whether no tile under a window was written."""

    @abstractmethod
    def mark(self) -> int:
        """Have all that was written so far reach the disk; a number from which :meth:`start` goes on."""

    @abstractmethod
    def finish(self) -> None:
        """Make the copy whole."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files; the copy stays as it is."""

    def tiles_under(self, y: int, x: int, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the tiles that a window touches."""
        side = self.tile
        return slice(y // side, -(-(y + height) // side)), slice(x // side, -(-(x + width) // side))

    def filled(self, y: int, x: int, pixels: Pixels) -> Iterator[tuple[int, int, Pixels]]:
        """Row and column of every tile of a block that is not all background, with its pixels."""
        side, background = self.tile, self.header.background
        for top in range(0, pixels.shape[0], side):
            for left in range(0, pixels.shape[1], side):
                tile = pixels[top : top + side, left : left + side]
                if not is_all(tile, background):
                    yield (y + top) // side, (x + left) // side, tile


def is_all(pixels: Pixels, value: float) -> bool:
    """Whether every number of ``pixels`` is ``value``; NaN is itself here."""
    if math.isnan(value):
        return bool(np.isnan(pixels).all())
    return bool((pixels[0, 0] == value).all() and (pixels == value).all())


def sync_folder(path: Path) -> None:
    """Have a folder's names reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files read at an offset: no lock between threads, no signal where a file was truncated."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from zoomkern.images.memory import host_module

#: Bytes that are copied out of maps before their pages no longer count as the process's.
MAPPED_BYTES = 1 << 28


class RawFile:
    """A file that threads read at once, each where it likes.

    ``os.pread`` answers a file that was truncated meanwhile with fewer bytes, where a memory map ends the process.

    Args:
        path: A regular file.

    Attributes:
        size: Its bytes when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes at ``offset``.

        Raises:
            EOFError: The file ends before; nothing is allocated for a count that it cannot have.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise EOFError(f"bytes {offset} to {offset + count} are needed, the file has {self.size}")
        data = os.pread(self._descriptor, count, offset)
        while len(data) < count:  # one call reads 2 GiB at most
            more = os.pread(self._descriptor, count - len(data), offset + len(data))
            if not more:
                raise EOFError(f"bytes {offset} to {offset + count} are needed, the file now ends before")
            data += more
        return data

    def read_block(
        self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], starts: tuple[int, ...], sizes: tuple[int, ...]
    ) -> np.ndarray[Any, Any]:
        """A block of an array that lies in the file in C order, read run by run.

        Args:
            offset: Where the array starts.
            shape: Of the whole array.
            dtype: Its type, in either byte order.
            starts: First index of the block along each dimension.
            sizes: Length of the block along each dimension, inside the array.

        Returns:
            ``[*sizes]`` in the machine's byte order.

        Raises:
            EOFError: The file ends before the block does.
        """
        steps = [dtype.itemsize] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            steps[axis] = steps[axis + 1] * shape[axis + 1]
        whole = len(shape)  # dimensions from here on are read in full
        while whole > 0 and sizes[whole - 1] == shape[whole - 1]:
            whole -= 1
        outer = max(whole - 1, 0)
        run = int(np.prod(sizes[outer:], dtype=np.int64)) * dtype.itemsize
        first = offset + sum(start * step for start, step in zip(starts, steps, strict=True))
        data = bytearray()
        for index in np.ndindex(*sizes[:outer]):
            data += self.read(first + sum(i * step for i, step in zip(index, steps, strict=False)), run)
        block = np.frombuffer(data, dtype).reshape(sizes)
        return block.astype(dtype.newbyteorder("="), copy=False)


class MappedFile(RawFile):
    """A file whose tiles are copied out of a map where they are in memory: half the work of ``os.pread``.

    What is not in memory is for ``os.pread``, which reads a tile in one piece and not page by page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._host = host_module() if sys.byteorder == "little" else None
        if self._host is not None and self.size:
            self._map = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
            _MAPS.add(self._map)

    def copy_tiles(
        self, window: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], side: int, top: int, left: int
    ) -> bool:
        """Fill a window from raw tiles, if they are all in memory.

        Args:
            window: ``[h, w, C]`` contiguous; where a tile is left out it stays as it is.
            starts: ``[rows, columns]`` int64, where the tiles under the window start in the file; 0 for one left out.
            side: of a tile in pixels.
            top: first row of the window in the first tile.
            left: first column of the window in the first tile.

        Returns:
            False where the window has to be read by :meth:`read`: not all is in memory, the file was truncated, or
            ``zoomkern._host`` is not built.
        """
        if self._host is None:
            return False
        _count(window.nbytes)
        if not self._host.copy_tiles(window, self._map, starts, side, top, left):
            return False
        # A file that ends within a page shows zeros behind its end.
        return os.fstat(self._descriptor).st_size >= self.size


_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_copied = 0


def _count(nbytes: int) -> None:
    """Let go of the pages of all maps once so much was copied out of them; they stay in the system's cache."""
    global _copied
    _copied += nbytes
    if _copied > MAPPED_BYTES and hasattr(mmap, "MADV_DONTNEED"):
        _copied = 0
        for mapping in list(_MAPS):
            mapping.madvise(mmap.MADV_DONTNEED)

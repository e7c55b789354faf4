"""Files read at an offset: no lock between threads, no map that a truncated file would turn into a signal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


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

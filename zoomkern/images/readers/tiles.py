"""Windows put together from the tiles that they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

#: ``(y, x, height, width)``.
Window = tuple[int, int, int, int]


def assemble(
    window: Window,
    tile: tuple[int, int],
    read: Callable[[int, int, Window], np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """``[height, width, C]`` of a window.

    Args:
        window: inside the level.
        tile: ``(height, width)`` of its tiles.
        read: of a tile's row, its column and a window in pixels of the tile, ``[height, width, C]`` of that window.
    """
    out: np.ndarray[Any, Any] | None = None
    for row, column, part, target in parts_of(window, tile):
        pixels = read(row, column, part)
        if part[2:] == window[2:]:
            return np.ascontiguousarray(pixels)
        if out is None:
            out = np.empty((*window[2:], pixels.shape[2]), pixels.dtype)
        out[slices(target)] = pixels
    assert out is not None  # a window has pixels
    return out


def parts_of(window: Window, tile: tuple[int, int]) -> Iterator[tuple[int, int, Window, Window]]:
    """Row and column of each tile under a window, the part of the tile, and the part of the window that it fills."""
    y, x, height, width = window
    for row in range(y // tile[0], (y + height - 1) // tile[0] + 1):
        top, bottom = max(y, row * tile[0]), min(y + height, (row + 1) * tile[0])
        for column in range(x // tile[1], (x + width - 1) // tile[1] + 1):
            left, right = max(x, column * tile[1]), min(x + width, (column + 1) * tile[1])
            size = (bottom - top, right - left)
            yield row, column, (top - row * tile[0], left - column * tile[1], *size), (top - y, left - x, *size)


def slices(part: Window) -> tuple[slice, slice]:
    """Rows and columns of a part."""
    y, x, height, width = part
    return slice(y, y + height), slice(x, x + width)

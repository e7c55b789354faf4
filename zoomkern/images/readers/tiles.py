"""Windows put together from the tiles that they touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Window = tuple[int, int, int, int]


def assemble(
    window: Window,
    tile: tuple[int, int],
    read: Callable[[int, int, Window], np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """``[height, width, C]`` of a window.

    Args:
        window: ``(y, x, height, width)`` inside the level.
        tile: ``(height, width)`` of its tiles.
        read: of a tile's row, its column and a window in pixels of the tile, ``[height, width, C]`` of that window.
    """
    y, x, height, width = window
    out: np.ndarray[Any, Any] | None = None
    for row in range(y // tile[0], (y + height - 1) // tile[0] + 1):
        for column in range(x // tile[1], (x + width - 1) // tile[1] + 1):
            top, left = row * tile[0], column * tile[1]
            first_y, first_x = max(y, top), max(x, left)
            last_y, last_x = min(y + height, top + tile[0]), min(x + width, left + tile[1])
            part = (first_y - top, first_x - left, last_y - first_y, last_x - first_x)
            pixels = read(row, column, part)
            if part[2:] == (height, width):
                return np.ascontiguousarray(pixels)
            if out is None:
                out = np.empty((height, width, pixels.shape[2]), pixels.dtype)
            out[first_y - y : last_y - y, first_x - x : last_x - x] = pixels
    assert out is not None  # a window has pixels
    return out

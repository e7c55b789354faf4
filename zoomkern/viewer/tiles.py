"""The arithmetic of Deep Zoom: which pixels of which stored level a tile of the page is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: Side of a tile in pixels.
TILE = 256
#: Stored pixels along a side that one pixel of a tile is made of, at most: it bounds the work of a tile.
MOST_SHRINK = 16
#: Pixels of the coarsest stored level, at most: all of them are read to show the whole image.
MOST_COARSE = 1 << 28
#: By which part a stored level may be too coarse; scanners round their levels' sizes.
_NEAR = 1.01


class Source(NamedTuple):
    """What a tile is made of.

    Args:
        level: the stored level.
        box: ``(left, top, right, bottom)`` in pixels of that level, inside it; edges may cut through pixels.
        size: ``(width, height)`` of the tile.
    """

    level: int
    box: tuple[float, float, float, float]
    size: tuple[int, int]


class DeepZoom:
    """Deep Zoom levels of an image: the last has its full size, each other half of the next one's, rounded up.

    A level is made of the next finer stored one. Where that would take more than :data:`MOST_SHRINK` stored pixels
    along a side for one of a tile, it is made of the next coarser one and is blurred; below the coarsest stored level
    the levels end where that many pixels are reached.

    Args:
        level_dimensions: ``(width, height)`` of each stored level, from the finest.

    Attributes:
        most: number of the level of full size.
        least: number of the coarsest level that is served.

    Raises:
        ValueError: the coarsest stored level is too large to be made small when it is shown.
    """

    def __init__(self, level_dimensions: Sequence[tuple[int, int]]) -> None:
        width, height = level_dimensions[-1]
        if width * height > MOST_COARSE:
            raise ValueError(
                f"its smallest level has {width} x {height} pixels, and all of them would be read to show the whole; "
                f"at most {MOST_COARSE:,} can be. Save it as a pyramid, a tiled TIFF with smaller levels for instance."
            )
        self.stored = tuple(level_dimensions)
        longest = max(self.stored[0])
        self.most = (longest - 1).bit_length()
        one_tile = min(self.most, (TILE - 1).bit_length())
        reached = math.ceil(math.log2(max(width, height) / MOST_SHRINK))
        self.least = max(one_tile, min(self.most, reached))

    def size(self, level: int) -> tuple[int, int]:
        """``(width, height)`` of a level."""
        scale = 1 << (self.most - level)
        width, height = self.stored[0]
        return -(-width // scale), -(-height // scale)

    def source(self, level: int, column: int, row: int) -> Source:
        """What a tile is made of.

        Raises:
            IndexError: there is no such tile.
        """
        if not self.least <= level <= self.most:
            raise IndexError(f"level must be from {self.least} to {self.most}; got {level}.")
        width, height = self.size(level)
        left, top = column * TILE, row * TILE
        if not (0 <= left < width and 0 <= top < height):
            raise IndexError(f"level {level} has {width} x {height} pixels; it has no tile {column}, {row}.")
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        scale = 1 << (self.most - level)
        stored = self._stored_level(scale)
        full, there = self.stored[0], self.stored[stored]
        x0, x1 = (min(x * scale, full[0]) * there[0] / full[0] for x in (left, right))
        y0, y1 = (min(y * scale, full[1]) * there[1] / full[1] for y in (top, bottom))
        return Source(stored, (x0, y0, x1, y1), (right - left, bottom - top))

    def _stored_level(self, scale: int) -> int:
        """The coarsest that is fine enough, unless it is far too fine."""
        width, height = self.stored[0]
        downsamples = [max(width / w, height / h) for w, h in self.stored]
        fine = max(i for i, known in enumerate(downsamples) if i == 0 or known <= scale * _NEAR)
        if scale / downsamples[fine] > MOST_SHRINK * _NEAR and fine + 1 < len(downsamples):
            return fine + 1
        return fine

"""Rows of the tiles that two stages drew: each as the second attention saw it, and below it that attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from zoomkern.visual.figures import percent
from zoomkern.visual.panels import (
    SECOND,
    Boxes,
    Strip,
    draw_boxes,
    draw_heat,
    draw_scale,
    heading,
    outline,
    panel,
    show,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BETWEEN = 0.084  # inches between a tile and its attention


class Tiles(NamedTuple):
    """``T`` different tiles of an image.

    Args:
        offsets: ``[T, 2]`` int64, top-left ``(y, x)`` in image pixels; lettered in this order.
        size: ``(h, w)`` in image pixels.
        views: ``[T, C, h, w]`` as the second attention saw them, uint8, or floating point in [0, 1].
        attention: ``[T, gh, gw]`` probability of every cell of a tile; each tile's sum to 1.
        probabilities: ``[T]`` probability of the cell that each tile was drawn for.
        parents: ``[N]`` int64, the tile that each sub-tile was drawn in, below ``T``; -1 for one that is not shown.
    """

    offsets: Tensor
    size: tuple[int, int]
    views: Tensor
    attention: Tensor
    probabilities: Tensor
    parents: Tensor

    @property
    def names(self) -> list[str]:
        """A letter for each tile."""
        return [letters(i) for i in range(len(self.offsets))]

    @property
    def boxes(self) -> Boxes:
        """The tiles in the image."""
        return Boxes(self.offsets, self.size, self.names, SECOND, 1.1)

    @property
    def strip(self) -> Strip:
        """The rows that they fill."""
        return Strip(len(self.offsets), (2 * self.size[0], self.size[1]))


def draw_tiles(figure: Figure, top: float, tiles: Tiles, offsets: Tensor, extent: tuple[int, int]) -> None:
    """Draw the rows ``tiles.strip`` into a figure, and what was read inside the tiles.

    Args:
        figure: to draw into.
        top: inches from its upper edge.
        tiles: one at least.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every sub-tile in image pixels, numbered in this order.
        extent: ``(h, w)`` that a sub-tile covers, in image pixels.
    """
    heading(figure, top, "tiles and the sub-tiles read; below, the second attention inside them")
    highest = float(tiles.attention.max())
    for i, view in enumerate(tiles.views):
        x, y, wide, high = tiles.strip.place(i, top)
        high = (high - _BETWEEN) / 2
        label = f"{tiles.names[i]}    {percent(float(tiles.probabilities[i]))}"
        seen = panel(figure, (x, y, wide, high), label, size=11.5, loc="center")
        show(seen, view, tiles.size)
        inside = (tiles.parents == i).nonzero().flatten().tolist()
        numbers = [str(j + 1) for j in inside]
        draw_boxes(seen, Boxes(offsets[inside] - tiles.offsets[i], extent, numbers, line=1.2), size=9)
        heat = panel(figure, (x, y + high + _BETWEEN, wide, high), "")
        show(heat, view, tiles.size, light=0.45)
        colours = draw_heat(heat, tiles.attention[i], tiles.size, highest)
        for axes in (seen, heat):
            outline(axes, SECOND)
    draw_scale(figure, (11.5, top - 0.12, 2.03, 0.09), colours, tiles.attention[0].numel())


def letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    rest, last = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + last)

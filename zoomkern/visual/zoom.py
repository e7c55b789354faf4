"""One picture of two stages: the attention over an image, the tiles it drew, and what was read inside them."""

from __future__ import annotations

import os
import sys

from torch import Tensor

from zoomkern.visual.figures import percent, write_figure
from zoomkern.visual.panels import (
    ACCENT,
    DPI,
    FAINT,
    FOOT,
    HEAD,
    HEADING,
    Boxes,
    Strip,
    draw_looked_at,
    frame,
    heading,
    outline,
    panel,
    panel_height,
    show,
)
from zoomkern.visual.tiles import Tiles, draw_tiles


def save_zoom(
    path: str | os.PathLike[str],
    *,
    overview: Tensor,
    attention: Tensor,
    tiles: Tiles,
    patches: Tensor,
    offsets: Tensor,
    probabilities: Tensor,
    image_size: tuple[int, int],
    title: str,
    subtitle: str = "",
    objects: Tensor | None = None,
    step: int = 1,
) -> None:
    """Write one PNG of what a two-stage network looked at: ``T`` different tiles, at least one, and ``N`` sub-tiles.

    Left, the image with tiles as lettered and sub-tiles as numbered boxes; right, the first attention over the dimmed
    image. Then the tiles, below each the attention inside it, and the sub-tiles at their own resolution with the
    product of both probabilities. What pads a batch is no tile: leave it out. The file is written beside its place and
    then renamed, so that a crash leaves either the old picture or the new one.

    Args:
        path: file to write; always a PNG.
        overview: ``[C, h, w]`` the image made small, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        attention: ``[Gh, Gw]`` probability of every cell of the image.
        tiles: what the first attention drew, in the same range as ``overview``.
        patches: ``[N, C, Ph, Pw]`` sub-tiles in the same range.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every sub-tile in image pixels.
        probabilities: ``[N]`` probability of each sub-tile over both stages.
        image_size: ``(H, W)`` of the image in pixels.
        title: first line.
        subtitle: second line, smaller.
        objects: ``[K, 4]`` xyxy in image pixels, marked on the first attention as what was there to find: circled, or
            dotted where they have no area.
        step: image pixels from one pixel of a sub-tile to the next.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    size = (patches.shape[2], patches.shape[3])
    read = Strip(patches.shape[0], size, below=0.25)
    tile_top = HEAD + panel_height(image_size) + HEADING
    read_top = tile_top + tiles.strip.height + HEADING
    figure = frame(title, subtitle, read_top + read.height + FOOT)
    extent = (step * size[0], step * size[1])
    boxes = [tiles.boxes, Boxes(offsets, extent, [str(i + 1) for i in range(read.number)])]
    titles = ("the tiles and the sub-tiles read", "first attention")
    draw_looked_at(figure, overview, attention, image_size, boxes, titles, objects)
    draw_tiles(figure, tile_top, tiles, offsets, extent)
    heading(figure, read_top, "sub-tiles, probability of both stages")
    for i, (patch, parent) in enumerate(zip(patches, tiles.parents.tolist(), strict=True)):
        both, first = float(probabilities[i]), float(tiles.probabilities[parent])
        axes = panel(figure, read.place(i, read_top), f"{i + 1}    {percent(both)}", size=11.5, loc="center")
        second = both / max(first, sys.float_info.min)  # a probability may be too small for a float
        axes.set_xlabel(f"{tiles.names[parent]}  {percent(first)} × {percent(second)}", color=FAINT, size=9)
        show(axes, patch)
        outline(axes, ACCENT)
    write_figure(figure, path, DPI)

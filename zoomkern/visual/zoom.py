"""One picture of two stages: the attention over an image, the tiles it drew, and what was read inside them."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from zoomkern.visual.figures import percent, write_figure
from zoomkern.visual.panels import (
    ACCENT,
    DPI,
    FAINT,
    FOOT,
    HEAD,
    INK,
    SECOND,
    Boxes,
    Strip,
    draw_boxes,
    draw_heat,
    draw_objects,
    draw_scale,
    frame,
    outline,
    panel,
    panel_height,
    show,
)

_HEADING = 0.62  # inches from a strip's upper edge to its first label


def save_zoom(
    path: str | os.PathLike[str],
    *,
    overview: Tensor,
    attention: Tensor,
    tile_offsets: Tensor,
    tile_size: tuple[int, int],
    tile_views: Tensor,
    tile_attention: Tensor,
    tile_probabilities: Tensor,
    patches: Tensor,
    offsets: Tensor,
    parents: Tensor,
    probabilities: Tensor,
    image_size: tuple[int, int],
    title: str,
    subtitle: str = "",
    objects: Tensor | None = None,
    step: int = 1,
) -> None:
    """Write one PNG of what a two-stage network looked at: ``T`` different tiles of an image, ``N`` sub-tiles in them.

    Left, the image with tiles as lettered and sub-tiles as numbered boxes; right, the first attention over the dimmed
    image. Then the tiles with the attention inside each, and the sub-tiles at their own resolution with the product
    of both probabilities. What pads a batch is no tile: leave it out. The file is written beside its place and then
    renamed, so that a crash leaves either the old picture or the new one.

    Args:
        path: file to write; always a PNG.
        overview: ``[C, h, w]`` the image made small, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        attention: ``[Gh, Gw]`` probability of every cell of the image.
        tile_offsets: ``[T, 2]`` int64, top-left ``(y, x)`` of every tile in image pixels.
        tile_size: ``(h, w)`` of a tile in image pixels.
        tile_views: ``[T, C, h, w]`` the tiles as the second attention saw them, in the same range as ``overview``.
        tile_attention: ``[T, gh, gw]`` probability of every cell of a tile; each tile's sum to 1.
        tile_probabilities: ``[T]`` probability of the cell that each tile was drawn for.
        patches: ``[N, C, Ph, Pw]`` sub-tiles in the same range.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every sub-tile in image pixels.
        parents: ``[N]`` int64, the tile that each sub-tile was drawn in, below ``T``.
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
    height, width = image_size
    size = (patches.shape[2], patches.shape[3])
    tiles, read = Strip(tile_views.shape[0], tile_size), Strip(patches.shape[0], size, label=0.6)
    tall = panel_height(image_size)
    tile_top = HEAD + tall + _HEADING
    read_top = tile_top + tiles.height + _HEADING
    figure = frame(title, subtitle, read_top + read.height + FOOT)
    letters, numbers = [_letters(i) for i in range(tiles.number)], [str(i + 1) for i in range(read.number)]
    extent = (step * size[0], step * size[1])

    left = panel(figure, (0.25, HEAD, 6.65, tall), f"{height} × {width} pixels, its tiles and the sub-tiles read")
    show(left, overview, image_size)
    draw_boxes(left, Boxes(tile_offsets, tile_size, letters, SECOND, 1.1), Boxes(offsets, extent, numbers))

    marked = objects is not None and len(objects) > 0
    title = "first attention" + (", and what is there" if marked else "")
    right = panel(figure, (7.1, HEAD, 6.65, tall), title)
    show(right, overview, image_size, light=0.45)
    colours = draw_heat(right, attention, image_size, float(attention.max()))
    draw_scale(figure, (11.5, HEAD - 0.19, 2.03, 0.09), colours)
    if objects is not None:
        draw_objects(right, objects, max(height, width))

    _heading(figure, tile_top, "tiles: probability, attention inside, sub-tiles read")
    highest = float(tile_attention.max())
    for i, view in enumerate(tile_views):
        axes = panel(figure, tiles.place(i, tile_top), f"{letters[i]}    {percent(float(tile_probabilities[i]))}")
    write_figure(figure, path, DPI)

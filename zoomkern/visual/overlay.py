"""One picture of a huge image: where attention lies, and where patches were read."""

from __future__ import annotations

import os

from torch import Tensor

from zoomkern.visual.figures import write_figure
from zoomkern.visual.panels import (
    DPI,
    FOOT,
    HEAD,
    HEADING,
    Boxes,
    draw_looked_at,
    frame,
    panel_height,
)
from zoomkern.visual.scale_bar import DEPTH, draw_scale_bar
from zoomkern.visual.tiles import Tiles, draw_tiles


def save_overlay(
    path: str | os.PathLike[str],
    *,
    overview: Tensor,
    attention: Tensor | None,
    offsets: Tensor,
    patch_size: tuple[int, int],
    image_size: tuple[int, int],
    title: str,
    subtitle: str = "",
    mpp: float | None = None,
    tiles: Tiles | None = None,
) -> None:
    """Write one PNG: left, the image with its patches and a scale bar; right, attention over it with a colour bar.

    Where there are two stages, below them the tiles with the attention inside each.

    The file is written beside its place and then renamed, so that a crash leaves either the old picture or the new one.

    Args:
        path: file to write; always a PNG.
        overview: ``[C, h, w]`` the image made small, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        attention: ``[Gh, Gw]`` probability of every cell; None puts the image in the middle.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every patch in image pixels, numbered in this order.
        patch_size: ``(h, w)`` that a patch covers, in image pixels.
        image_size: ``(H, W)`` of the image in pixels.
        title: first line.
        subtitle: second line, smaller.
        mpp: microns per pixel; None where it is unknown, so that the scale bar counts pixels.
        tiles: of the first of two stages, in the same range as ``overview``.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    below = HEAD + panel_height(image_size) + DEPTH
    rows = 0.0 if tiles is None else HEADING + tiles.strip.height
    figure = frame(title, subtitle, below + rows + FOOT)
    boxes = [Boxes(offsets, patch_size, [str(i + 1) for i in range(len(offsets))])]
    if tiles is not None:
        boxes.insert(0, tiles.boxes)
        draw_tiles(figure, below + HEADING, tiles, offsets, patch_size)
    titles = ("and the patches that were read", "attention")
    left = draw_looked_at(figure, overview, attention, image_size, boxes, titles)
    draw_scale_bar(left, image_size, mpp)
    write_figure(figure, path, DPI)

"""One picture: an overview, the attention over it, and the patches that were drawn."""

from __future__ import annotations

import os

from torch import Tensor

from zoomkern.visual.figures import percent, write_figure
from zoomkern.visual.panels import (
    ACCENT,
    DPI,
    FOOT,
    HEAD,
    Boxes,
    Strip,
    draw_looked_at,
    frame,
    outline,
    panel,
    panel_height,
    show,
)


def save_attention(
    path: str | os.PathLike[str],
    *,
    overview: Tensor,
    attention: Tensor | None,
    patches: Tensor,
    offsets: Tensor,
    probabilities: Tensor,
    image_size: tuple[int, int],
    title: str,
    subtitle: str = "",
    objects: Tensor | None = None,
    step: int = 1,
) -> None:
    """Write one PNG of an image, the attention over it, and the drawn patches with their probabilities.

    Left, the image with the patches as numbered boxes; right, the attention over the dimmed image; below, every
    patch at its own resolution, in the order of drawing. The file is written beside its place and then renamed, so
    that a crash leaves either the old picture or the new one.

    Args:
        path: file to write; always a PNG.
        overview: ``[C, h, w]`` the image made small, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        attention: ``[Gh, Gw]`` probability of every cell; None puts the image in the middle.
        patches: ``[N, C, Ph, Pw]`` in the same range as ``overview``.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every patch in image pixels.
        probabilities: ``[N]`` probability of the cell that each patch was drawn for, or its share of the whole.
        image_size: ``(H, W)`` of the image in pixels.
        title: first line.
        subtitle: second line, smaller.
        objects: ``[K, 4]`` xyxy in image pixels, marked on the attention, or on the image where there is none, as
            what was there to find: circled, or dotted where they have no area.
        step: image pixels from one pixel of a patch to the next.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    size = (patches.shape[2], patches.shape[3])
    strip = Strip(patches.shape[0], size)
    top = HEAD + panel_height(image_size) + 0.15
    figure = frame(title, subtitle, top + strip.height + FOOT)
    places = Boxes(offsets, (step * size[0], step * size[1]), [str(i + 1) for i in range(strip.number)])
    titles = ("and the patches that were read", "attention")
    draw_looked_at(figure, overview, attention, image_size, [places], titles, objects)
    for i, patch in enumerate(patches):
        label = f"{i + 1}    {percent(float(probabilities[i]))}"
        axes = panel(figure, strip.place(i, top), label, size=11.5, loc="center")
        show(axes, patch)
        outline(axes, ACCENT)
    write_figure(figure, path, DPI)

"""How long a thing in a picture is."""

from __future__ import annotations

import math
from typing import Any

from zoomkern.visual.panels import INK

#: Inches below an image that a bar takes.
DEPTH = 0.3


def bar_length(width: float) -> float:
    """The largest of ..., 1, 2, 5, 10, 20, ... that is at most a quarter of ``width``."""
    power = 10.0 ** math.floor(math.log10(width / 4))
    return max(step * power for step in (1, 2, 5) if step * power <= width / 4 * (1 + 1e-9))


def bar_label(length: float, microns: bool) -> str:
    """A length in words."""
    if not microns:
        return f"{length:,.0f} pixels" if length >= 1 else f"{length:g} pixels"
    for unit, size in (("cm", 1e4), ("mm", 1e3), ("µm", 1.0)):
        if length >= size:
            return f"{length / size:g} {unit}"
    return f"{1e3 * length:g} nm"


def draw_scale_bar(axes: Any, image_size: tuple[int, int], mpp: float | None) -> None:
    """Draw a bar of round length below an image of ``(H, W)`` pixels, where it hides nothing.

    Args:
        axes: limits are those of the image.
        image_size: ``(H, W)`` in pixels.
        mpp: microns per pixel; None, for pixels, where it is unknown.
    """
    from matplotlib.transforms import ScaledTranslation

    length = bar_length(image_size[1] * (mpp or 1.0))
    end = length / (mpp or 1.0)
    below = axes.get_xaxis_transform() + ScaledTranslation(0, -DEPTH / 2, axes.figure.dpi_scale_trans)
    axes.plot((0, end), (0, 0), color=INK, linewidth=3, solid_capstyle="butt", clip_on=False, transform=below)
    label = bar_label(length, mpp is not None)
    axes.annotate(
        label,
        (end, 0),
        (6, 0),
        below,
        textcoords="offset points",
        color=INK,
        size=11,
        va="center",
        annotation_clip=False,
    )

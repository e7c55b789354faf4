"""How long a thing in a picture is."""

from __future__ import annotations

import math
from typing import Any

from zoomkern.visual.panels import INK, PAPER


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
    """Draw a bar of round length at the lower left of an image of ``(H, W)`` pixels.

    Args:
        axes: limits are those of the image.
        image_size: ``(H, W)`` in pixels.
        mpp: microns per pixel; None, for pixels, where it is unknown.
    """
    from matplotlib.patheffects import withStroke

    height, width = image_size
    length = bar_length(width * (mpp or 1.0))
    inset = 0.03 * width
    start, y = inset, height - max(0.03 * height, min(inset, 0.1 * height))
    halo = [withStroke(linewidth=5, foreground=PAPER)]
    axes.plot(
        (start, start + length / (mpp or 1.0)), (y, y), color=INK, linewidth=3, solid_capstyle="butt", path_effects=halo
    )
    halo = [withStroke(linewidth=3, foreground=PAPER)]
    label = bar_label(length, mpp is not None)
    axes.annotate(
        label, (start, y), (0, 5), textcoords="offset points", color=INK, size=11, weight="bold", path_effects=halo
    )

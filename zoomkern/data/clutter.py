"""Clutter for synthetic canvases: uneven paper, pen strokes, scribbles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.uint8]


def stroke(rng: np.random.Generator, extent: tuple[float, float], bend: float) -> Bitmap:
    """One anti-aliased pen stroke, a quadratic curve, cropped to its ink.

    Args:
        rng: source of its shape.
        extent: shortest and longest distance between its ends, in pixels.
        bend: how far the middle may lie off the straight line, as a share of that distance.

    Returns:
        ``[h, w]``.
    """
    length = rng.uniform(*extent)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = along[::-1] * (1, -1)
    middle = along * length / 2 + across * length * rng.uniform(-bend, bend)
    t = np.linspace(0, 1, 24)[:, None]
    return _ink(2 * t * (1 - t) * middle + t**2 * along * length, rng.uniform(1.0, 1.8), rng.uniform(120, 255))


def scribble(rng: np.random.Generator, extent: float) -> Bitmap:
    """A knot of strokes about as large as a digit, which only a close look tells from one.

    Args:
        rng: source of its shape.
        extent: side of the square that holds its corners, in pixels.

    Returns:
        ``[h, w]``.
    """
    corners = rng.uniform(0, extent, (int(rng.integers(4, 6)), 2))
    steps = np.linspace(0, 1, 12)[:, None, None]
    path = (corners[:-1] + steps * (corners[1:] - corners[:-1])).transpose(1, 0, 2).reshape(-1, 2)
    return _ink(path, rng.uniform(1.2, 1.8), rng.uniform(160, 255))


def paper(rng: np.random.Generator, size: int) -> Bitmap:
    """Dark paper with slow changes of brightness and a fine grain, ``[size, size]``."""
    knots = rng.uniform(4, 40, (9, 9))
    at = np.linspace(0, 8, size)
    low = np.minimum(at.astype(int), 7)
    part = at - low
    rows = knots[low] * (1 - part)[:, None] + knots[low + 1] * part[:, None]  # [size, 9]
    grain = rng.integers(0, 8, (size, size), dtype=np.uint8)
    for start in range(0, size, 256):  # in bands, so that no float copy of the canvas is made
        band = rows[start : start + 256]
        grain[start : start + 256] += (band[:, low] * (1 - part) + band[:, low + 1] * part).astype(np.uint8)
    return grain


def scatter(rng: np.random.Generator, canvas: Bitmap, glyphs: list[Bitmap], number: int) -> None:
    """Lay ``number`` randomly chosen and turned glyphs on a canvas, wholly inside; the brighter pixel wins."""
    for which, turns in zip(rng.integers(len(glyphs), size=number), rng.integers(4, size=number), strict=True):
        glyph = np.rot90(glyphs[which], turns)
        height, width = glyph.shape
        y = int(rng.integers(canvas.shape[0] - height + 1))
        x = int(rng.integers(canvas.shape[1] - width + 1))
        spot = canvas[y : y + height, x : x + width]
        np.maximum(spot, glyph, out=spot)


def _ink(path: NDArray[np.float64], radius: float, brightness: float) -> Bitmap:
    """A pen of this radius drawn along ``path [P, 2]``, anti-aliased over one pixel."""
    margin = radius + 1.5
    path = path - path.min(0) + margin
    height, width = np.ceil(path.max(0) + margin).astype(int)
    y, x = np.mgrid[:height, :width]
    nearest = np.full((height, width), np.inf)
    for (y0, x0), (y1, x1) in zip(path[:-1], path[1:], strict=True):
        dy, dx = y1 - y0, x1 - x0
        part = np.clip(((y - y0) * dy + (x - x0) * dx) / max(dy * dy + dx * dx, 1e-9), 0, 1)
        np.minimum(nearest, np.hypot(y - y0 - part * dy, x - x0 - part * dx), out=nearest)
    return (np.clip(radius + 0.5 - nearest, 0, 1) * brightness).astype(np.uint8)

"""Polygons as a mask, by the even-odd rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomkern import checks
from zoomkern.images.places.geojson import Polygon, Source, Transform, read_polygons

#: Crossings of edges and rows that are computed at a time, about.
_CROSSINGS = 1 << 21


def polygon_mask(
    source: Source,
    image_size: tuple[int, int],
    size: tuple[int, int],
    *,
    transform: Transform | None = None,
    crs: str | None = None,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """Where an image lies inside polygons that somebody drew, in QuPath or a GIS program.

    A cell of the mask is True where its centre is inside: inside of a polygon are points with an odd number of edges to
    their left, so holes are left out; polygons that overlap join. Of two polygons side by side just one has a centre on
    their common edge.

    Args:
        source: path of a GeoJSON file, or its content: see :func:`~zoomkern.images.places.geojson.read_polygons`.
        image_size: ``(H, W)`` of level 0.
        size: ``(h, w)`` of the mask.
        transform: of the raster, where the file has map coordinates.
        crs: of the raster, to be compared with the file's.
        classes: take these classes of QuPath alone. ``tissue & ~polygon_mask(..., classes=["Artifact"])`` cuts out.

    Returns:
        bool ``[h, w]``.

    Memory:
        About 10 bytes per cell of the largest polygon's bounding box, and 100 MiB for long outlines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no GeoJSON, or none of its polygons touches the image.
    """
    height, width = checks.pair("image_size", image_size)
    rows, columns = checks.pair("size", size)
    polygons = read_polygons(source, transform=transform, crs=crs, classes=classes)
    corners = np.concatenate([ring for polygon in polygons for ring in polygon])
    low, high = corners.min(0), corners.max(0)
    if (high <= 0).any() or (low >= (height, width)).any():
        raise ValueError(
            f"polygons must touch the image, {height} x {width} pixels; they lie between (y, x) = "
            f"{tuple(low.tolist())} and {tuple(high.tolist())}. Map coordinates need transform=; pixels are level 0's."
        )
    y, x = _centres(rows, height), _centres(columns, width)
    mask = np.zeros((rows, columns), dtype=bool)
    for polygon in polygons:
        _fill(mask, polygon, y, x)
    return torch.from_numpy(mask)


def _centres(cells: int, pixels: int) -> NDArray[np.float64]:
    return (2 * np.arange(cells) + 1) * pixels / (2 * cells)


def _fill(mask: NDArray[np.bool_], polygon: Polygon, y: NDArray[np.float64], x: NDArray[np.float64]) -> None:
    """Adds a polygon to the mask: a row of centres is inside between its odd and its even crossings with edges."""
    begin = np.concatenate(polygon)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in polygon])
    downwards = (begin[:, 0] <= end[:, 0])[:, None]  # the edge of two neighbours is computed the same way for both
    upper, lower = np.where(downwards, begin, end), np.where(downwards, end, begin)
    first, last = np.searchsorted(y, upper[:, 0]), np.searchsorted(y, lower[:, 0])  # rows that the edge crosses
    top, bottom = int(first.min()), int(last.max())
    left, right = (int(np.searchsorted(x, side)) for side in (begin[:, 1].min(), begin[:, 1].max()))
    if top == bottom or left == right:
        return
    crossings = last - first
    inside = np.zeros((bottom - top, right - left + 1), dtype=bool)
    slope = (lower[:, 1] - upper[:, 1]) / np.where(crossings, lower[:, 0] - upper[:, 0], 1)
    ends = np.cumsum(crossings)
    for edges in np.split(np.arange(len(begin)), np.searchsorted(ends, np.arange(_CROSSINGS, ends[-1], _CROSSINGS))):
        count = crossings[edges]
        edge = np.repeat(edges, count)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        at = upper[edge, 1] + (y[row] - upper[edge, 0]) * slope[edge]
        column = np.clip(np.searchsorted(x, at), left, right)  # the first centre that is not left of the crossing
        cell = (row - top) * inside.shape[1] + column - left
        inside ^= np.bincount(cell, minlength=inside.size).reshape(inside.shape) % 2 == 1
    np.logical_xor.accumulate(inside, axis=1, out=inside)
    mask[top:bottom, left:right] |= inside[:, :-1]

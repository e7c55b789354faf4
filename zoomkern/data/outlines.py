"""Outlines of lesions: the polygons that annotators drew on a slide, and what of them a window shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomkern.data.files import read_xml

#: Groups of an annotation file that were cut out of the lesions around them; all others are lesions.
_HOLES = ("_2", "Exclusion", "normal")


class Outline(NamedTuple):
    """A closed polygon.

    Args:
        points: ``[V, 2]`` float64, x and y in pixels, at least three; the last is joined to the first.
        is_hole: whether it is cut out of a lesion rather than one itself.
    """

    points: Tensor
    is_hole: bool = False


def read_outlines(path: Path) -> list[Outline]:
    """The polygons of an annotation file as the ASAP viewer writes them.

    Annotations of fewer than three points enclose nothing and are left out. The groups ``_2``, ``Exclusion`` and
    ``normal`` are holes.

    Args:
        path: ``ASAP_Annotations`` in XML, without a document type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such XML, or declares a document type; the message names it.
    """
    root = read_xml(path)
    if root.tag != "ASAP_Annotations":
        raise ValueError(f"{str(path)!r} must be ASAP_Annotations in XML; got <{root.tag}>. Export it from ASAP.")
    outlines = []
    for annotation in root.iterfind("./Annotations/Annotation"):
        try:
            corners = [
                (float(corner.attrib["Order"]), float(corner.attrib["X"]), float(corner.attrib["Y"]))
                for corner in annotation.iterfind("./Coordinates/Coordinate")
            ]
            if not all(math.isfinite(value) for corner in corners for value in corner):
                raise ValueError("a coordinate is not finite")
        except (KeyError, ValueError) as error:
            name = annotation.get("Name", "?")
            raise ValueError(
                f"{str(path)!r} must have Order, X and Y in every Coordinate; annotation {name!r}: {error!r}. Mend it."
            ) from error
        if len(corners) >= 3:
            points = torch.tensor([corner[1:] for corner in sorted(corners)], dtype=torch.float64)
            outlines.append(Outline(points, annotation.get("PartOfGroup") in _HOLES))
    return outlines


def bounding_boxes(outlines: Sequence[Outline]) -> Tensor:
    """``[K, 4]`` float64 xyxy around each outline."""
    boxes = [torch.cat([outline.points.amin(0), outline.points.amax(0)]) for outline in outlines]
    return torch.stack(boxes) if boxes else torch.zeros(0, 4, dtype=torch.float64)


def clip_to_window(outlines: Sequence[Outline], window: tuple[float, float, float, float]) -> list[Outline]:
    """What of the outlines lies in a window, in the window's own coordinates; those outside of it are left out.

    Where a concave outline falls into several pieces, they stay one polygon, joined along the window's edge: its area
    and bounding box are right.

    Args:
        outlines: polygons that do not cross themselves.
        window: x0, y0, x1, y1 in pixels.
    """
    x0, y0, x1, y1 = window
    clipped = []
    for outline in outlines:
        points = outline.points.numpy()
        low, high = points.min(0), points.max(0)
        if high[0] <= x0 or low[0] >= x1 or high[1] <= y0 or low[1] >= y1:
            continue
        for axis, bound, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
            points = _half(points, axis, bound, sign)
        if len(points) >= 3:
            clipped.append(Outline(torch.from_numpy(points - (x0, y0)), outline.is_hole))
    return clipped


def total_area(outlines: Sequence[Outline]) -> float:
    """Area of the lesions less that of the holes, in pixels; lesions that overlap count twice.

    The area of a polygon is ``|sum_v x_v y_{v+1} - x_{v+1} y_v| / 2``.
    """
    total = 0.0
    for points, is_hole in outlines:
        x, y = (points - points[0]).unbind(1)  # from a point of its own: slides are 10^5 pixels wide, lesions may be 10
        area = float((x * y.roll(-1) - x.roll(-1) * y).sum().abs()) / 2
        total += -area if is_hole else area
    return total


def area_boxes(outlines: Sequence[Outline], strips: int = 64) -> Tensor:
    """``[K, 4]`` float64 xyxy: boxes that cover the lesions less the holes, without overlap inside a lesion.

    Each lesion is cut into horizontal strips, and of each strip what lies inside along its middle is kept: off by no
    more than a strip's height at corners, and exact elsewhere for edges that are straight through the strip.

    Args:
        outlines: polygons; where a lesion lies over another, both are covered.
        strips: of each lesion.
    """
    boxes = []
    holes = [outline.points.numpy() for outline in outlines if outline.is_hole]
    for lesion in (outline.points.numpy() for outline in outlines if not outline.is_hole):
        edges = np.linspace(lesion[:, 1].min(), lesion[:, 1].max(), strips + 1)
        for top, bottom in zip(edges, edges[1:], strict=False):
            own, *cut = (_crossings(points, (top + bottom) / 2) for points in (lesion, *holes))
            places = np.unique(np.concatenate([own, *cut]))
            for left, right in zip(places, places[1:], strict=False):
                x = (left + right) / 2
                if _inside(own, x) and not any(_inside(hole, x) for hole in cut):
                    boxes.append((left, top, right, bottom))
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def _crossings(points: NDArray[np.float64], y: float) -> NDArray[np.float64]:
    """Where the polygon's edges cross the horizontal line at ``y``."""
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    crosses = (y0 <= y) != (y1 <= y)
    share = (y - y0[crosses]) / (y1 - y0)[crosses]
    return np.asarray(x0[crosses] + share * (x1 - x0)[crosses])


def _inside(crossings: NDArray[np.float64], x: float) -> bool:
    """By the rule of even and odd."""
    return bool((crossings < x).sum() % 2)


def _half(points: NDArray[np.float64], axis: int, bound: float, sign: int) -> NDArray[np.float64]:
    """The part of a polygon where ``sign * (coordinate - bound) >= 0`` (Sutherland & Hodgman, CACM 1974)."""
    following = np.roll(points, -1, axis=0)
    inside = sign * (points[:, axis] - bound)
    inside_next = np.roll(inside, -1)
    crosses = (inside >= 0) != (inside_next >= 0)
    part = inside / np.where(crosses, inside - inside_next, 1)
    cuts = points + part[:, None] * (following - points)
    cuts[:, axis] = bound
    keep = np.stack([inside >= 0, crosses], axis=1)
    return np.stack([points, cuts], axis=1)[keep]

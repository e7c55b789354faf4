"""One picture: a figure of several networks over a quantity, with error bars."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zoomkern.visual.charts import DPI, QUIET, finite, line_style, make_log, name_axes, new_chart, show_legend
from zoomkern.visual.figures import printable, write_figure

_APART = 0.004  # of the axis, between bars that would stand on each other


class Point(NamedTuple):
    """A value and how sure it is.

    Args:
        x: the quantity that varies.
        y: the value.
        low: lower end of its interval; None where there is none.
        high: upper end.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def save_lines(
    path: str | os.PathLike[str],
    lines: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    levels: Mapping[str, float] | None = None,
    log_x: bool = True,
) -> None:
    """Write one PNG of lines with error bars, as accuracy against the share of the image that is object.

    Lines are moved apart by a hair, so that no error bar hides another. The file is written beside its place and then
    renamed.

    Args:
        path: file to write; always a PNG.
        lines: points of every line by its name, in any order.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        title: first line.
        levels: horizontal lines by their name, as chance.
        log_x: x is drawn on a logarithmic axis.

    Raises:
        ValueError: there is no point, or a number that cannot be drawn.
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.

    Example:
        >>> points = [Point(0.1, 62, 55, 68), Point(1, 93, 88, 96)]
        >>> save_lines("ratio.png", {"ZoomIn": points}, x_label="object / image (%)", y_label="accuracy (%)")
    """
    every = [point.x for points in lines.values() for point in points]
    if not every:
        raise ValueError("lines must hold a point; got none.")
    low, high = min(finite("x", every, positive=log_x)), max(every)
    figure, (axes,) = new_chart(size=(7.6, 4.2), title=title)
    for number, (name, points) in enumerate(lines.items()):
        away = _APART * (number - (len(lines) - 1) / 2)
        points = sorted(points, key=lambda point: point.x)
        x = [point.x * (high / low) ** away if log_x else point.x + (high - low) * away for point in points]
        y = finite("y", [point.y for point in points])
        bars = list(zip(*(_bar(name, point) for point in points), strict=True))
        axes.errorbar(x, y, bars, label=printable(name), lw=1.8, ms=5, capsize=3, elinewidth=1, **line_style(number))
    for name, level in (levels or {}).items():
        axes.axhline(level, color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
        text = axes.annotate(printable(name), (1, level), (0, 2), axes.get_yaxis_transform(), "offset points")
        text.set(ha="right", va="bottom", color=QUIET, size=9, parse_math=False)
    if log_x:
        make_log(axes, every)
    name_axes(axes, x_label, y_label)
    show_legend(axes, loc="center left", bbox_to_anchor=(1.01, 0.5))
    write_figure(figure, path, DPI)


def _bar(name: str, point: Point) -> tuple[float, float]:
    """How far a point's interval goes down and up; NaN, which is not drawn, where there is none."""
    if point.low is None and point.high is None:
        return math.nan, math.nan
    low, high = (point.y if end is None else end for end in (point.low, point.high))
    if not low <= point.y <= high:
        raise ValueError(f"Point {name!r} must lie in its interval; got {point.y:g} outside of [{low:g}, {high:g}].")
    return point.y - low, high - point.y

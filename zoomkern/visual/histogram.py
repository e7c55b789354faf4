"""One picture: how often which magnitude occurs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from statistics import median

import numpy as np

from zoomkern.visual.charts import COLOURS, DPI, finite, make_log, name_axes, new_chart, show_legend
from zoomkern.visual.figures import write_figure


def count_magnitudes(values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Count values in bins of equal width on a logarithmic axis, as many as Rice's rule says, 2 n^(1/3).

    Args:
        values: positive numbers, at least one.

    Returns:
        Counts of the bins, and their edges, one more; the outer edges are the least and the largest value, or half
        and twice the value where all are equal.

    Raises:
        ValueError: there is no value, or one that is not positive and finite.
    """
    given = finite("values", values, positive=True)
    if not given:
        raise ValueError("values must hold a number; got none.")
    low, high = min(given), max(given)
    if low == high:
        return [len(given)], [low / 2, 2 * high]
    counts, edges = np.histogram(given, np.geomspace(low, high, math.ceil(2 * len(given) ** (1 / 3)) + 1))
    return counts.tolist(), edges.tolist()


def save_histogram(
    path: str | os.PathLike[str],
    values: Sequence[float],
    *,
    x_label: str,
    y_label: str = "images",
    title: str = "",
) -> None:
    """Write one PNG of a histogram on a logarithmic axis, with the median marked.

    The file is written beside its place and then renamed.

    Args:
        path: file to write; always a PNG.
        values: positive numbers, at least one.
        x_label: what they are, with their unit.
        y_label: what is counted.
        title: first line.

    Raises:
        ValueError: there is no value, or one that is not positive and finite.
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.

    Example:
        >>> save_histogram("ratios.png", [0.2, 0.5, 1.3], x_label="objects / image (%)")
    """
    counts, edges = count_magnitudes(values)
    figure, (axes,) = new_chart(size=(7.0, 3.8), title=title)
    from matplotlib.ticker import MaxNLocator  # after the sentence that says how to get it

    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0], edgecolor="white", lw=0.8)
    middle = median(values)
    axes.axvline(middle, color=COLOURS[1], lw=1.6, label=f"median {middle:.3g}")
    make_log(axes, edges)
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    name_axes(axes, x_label, y_label)
    show_legend(axes, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    write_figure(figure, path, DPI)

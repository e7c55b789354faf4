"""One picture: how loss and accuracy went while a network learned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from zoomkern.visual.charts import DPI, QUIET, line_style, name_axes, new_chart, show_legend
from zoomkern.visual.figures import printable, write_figure

_FEW = 30  # points that are worth a mark each


def save_curves(
    path: str | os.PathLike[str],
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    chosen: float | None = None,
    title: str = "",
    x_label: str = "epoch",
) -> None:
    """Write one PNG of training curves, a panel for each figure: loss, accuracy, ...

    A curve of the same name has the same colour in every panel. The file is written beside its place and then renamed.

    Args:
        path: file to write; always a PNG.
        panels: curves by name, ``(x, y)`` each, under the name of what they show; where y is NaN a curve has a gap.
        chosen: the x whose weights were kept; None marks nothing.
        title: over all panels.
        x_label: what x counts.

    Raises:
        ValueError: there is no panel.
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.

    Example:
        >>> save_curves("curves.png", {"loss": {"train": [(0, 0.7), (1, 0.4)], "val": [(0, 0.6), (1, 0.5)]}}, chosen=1)
    """
    if not panels:
        raise ValueError("panels must hold at least one; got none. Name one, as 'loss'.")
    figure, all_axes = new_chart(len(panels), (5.2, 3.6), title)
    from matplotlib.ticker import MaxNLocator  # after the sentence that says how to get it

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for axes, (what, curves) in zip(all_axes, panels.items(), strict=True):
        for name, points in curves.items():
            x, y = zip(*sorted(points), strict=True) if points else ((), ())
            style = line_style(names.index(name))
            if len(x) > _FEW:
                style["marker"] = ""
            axes.plot(x, y, label=printable(name), lw=1.8, ms=4, **style)
        if chosen is not None:
            axes.axvline(chosen, color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1, label=f"chosen: {x_label} {chosen:g}")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        name_axes(axes, x_label, what)
        show_legend(axes)
    write_figure(figure, path, DPI)

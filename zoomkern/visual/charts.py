"""What charts share: paper, colours that differ in grey too, axes without ornament."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoomkern.visual.figures import new_figure, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#d9822b", "#6b4c9a", "#3d8c40", "#b03a48", "#6e7781")
MARKERS = "osD^vP"
QUIET = "#6e7781"
DPI = 130


def new_chart(panels: int = 1, size: tuple[float, float] = (6.4, 4.0), title: str = "") -> tuple[Figure, list[Any]]:
    """A figure with ``panels`` axes side by side, ``size`` in inches each."""
    figure = new_figure((size[0] * panels, size[1]), "white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    if title:
        figure.suptitle(printable(title), size=12, weight="bold", parse_math=False)
    axes = [figure.add_subplot(1, panels, number + 1) for number in range(panels)]
    for one in axes:
        one.grid(alpha=0.25)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def line_style(number: int) -> dict[str, Any]:
    """How line ``number`` is drawn; the colours come round after six, then marks differ and lines are dashed."""
    turn, place = divmod(number, len(COLOURS))
    marker = MARKERS[(place + turn) % len(MARKERS)]
    return {"color": COLOURS[place], "marker": marker, "ls": ("-", "--", ":", "-.")[turn % 4]}


def name_axes(axes: Any, x_label: str, y_label: str) -> None:
    """Labels of both axes."""
    axes.set_xlabel(printable(x_label), parse_math=False)
    axes.set_ylabel(printable(y_label), parse_math=False)


def show_legend(axes: Any, **where: Any) -> None:
    """Names of what was drawn with one, where there is any."""
    if axes.get_legend_handles_labels()[1]:
        legend = axes.legend(frameon=False, fontsize=9, **where)
        for text in legend.get_texts():
            text.set_parse_math(False)


def make_log(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic x axis around ``values`` with ticks that are plain numbers, at least three of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values), max(values)
    subs = (1,) if high / low >= 1000 else (1, 2, 5) if high / low >= 10 else (1, 1.5, 2, 3, 4, 5, 7)
    room = max((high / low) ** 0.04, (3 * low / high) ** 0.5)  # threefold in all holds three of the finest ticks
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def finite(name: str, values: Sequence[float], positive: bool = False) -> list[float]:
    """``values`` as floats, which must be finite, and positive where an axis is logarithmic."""
    given = [float(value) for value in values]
    for value in given:
        if not math.isfinite(value) or (positive and value <= 0):
            wanted = "positive and finite" if positive else "finite"
            raise ValueError(f"{name} must be {wanted}; got {value:g}. Leave it out.")
    return given

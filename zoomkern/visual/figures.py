"""Figures that need no window, and files that are written whole or not at all."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from zoomkern.images.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(size: tuple[float, float], colour: str) -> Figure:
    """An empty figure of ``(width, height)`` inches, which leaves matplotlib's choice of backend alone.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'zoomkern[demo]'") from error
    figure = Figure(figsize=size, facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: str | os.PathLike[str], dpi: int) -> None:
    """Write a PNG beside the file, then rename, so that a crash leaves either the old picture or the new one.

    Raises:
        OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a title in a script the font lacks
        figure.savefig(picture, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    write_whole(Path(path), picture.getvalue())


def printable(text: str) -> str:
    """A text without what no font can show: control characters and halves of surrogate pairs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def percent(value: float) -> str:
    """A share with two digits that count."""
    hundredths = 100 * value
    if hundredths == 0 or hundredths >= 9.95:
        return f"{hundredths:.0f} %"
    if hundredths < 0.001:
        return "< 0.001 %"
    return f"{hundredths:.{1 if hundredths >= 0.995 else 2 if hundredths >= 0.0995 else 3}f} %"

"""A contact sheet: patches beside each other."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor

from zoomkern.visual.figures import write_figure
from zoomkern.visual.panels import ACCENT, DPI, FOOT, HEAD, Strip, frame, outline, panel, show


def save_sheet(
    path: str | os.PathLike[str], *, patches: Tensor, labels: Sequence[str], title: str, subtitle: str = ""
) -> None:
    """Write one PNG of patches at their own resolution, each with a label above it, in rows of ten.

    The file is written beside its place and then renamed.

    Args:
        path: file to write; always a PNG.
        patches: ``[N, C, Ph, Pw]``, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        labels: one for each.
        title: first line.
        subtitle: second line, smaller.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    strip = Strip(len(patches), (patches.shape[2], patches.shape[3]))
    top = HEAD - 0.3
    figure = frame(title, subtitle, top + strip.height + FOOT)
    for i, (patch, label) in enumerate(zip(patches, labels, strict=True)):
        axes = panel(figure, strip.place(i, top), label, size=11.5, loc="center")
        show(axes, patch)
        outline(axes, ACCENT)
    write_figure(figure, path, DPI)

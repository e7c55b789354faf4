"""The curves of a run, over all the times it was resumed."""

from __future__ import annotations

import csv
from pathlib import Path

from zoomkern.visual import save_curves

#: Panels of the picture: which columns of the table each shows.
PANELS = {
    "loss": {"training": "train_loss", "validation": "val_loss", "contrast": "train_contrast"},
    "accuracy": {"validation": "val_accuracy", "test, watched": "watched_accuracy"},
    "AUC": {"validation": "val_auc"},
}


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Every figure's value by epoch, from ``version_*/metrics.csv``; where a run was resumed, the later value.

    Rows of steps, which other callbacks write, are left out.
    """
    curves: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items() if row["epoch"] else ():
                    if value and name not in ("epoch", "step"):
                        curves.setdefault(name, {})[int(row["epoch"])] = float(value)
    return curves


def draw_curves(path: Path, folder: Path, chosen: int | None) -> None:
    """Write a PNG of the curves in ``folder``, the ``chosen`` epoch marked; nothing before the first epoch."""
    curves = read_curves(folder)
    panels = {
        panel: {label: sorted(curves[name].items()) for label, name in columns.items() if name in curves}
        for panel, columns in PANELS.items()
    }
    drawn = {panel: lines for panel, lines in panels.items() if lines}
    if drawn:
        save_curves(path, drawn, chosen=chosen)

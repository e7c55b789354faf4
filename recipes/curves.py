"""Mean training curves of cross-validations, as a picture, and a table of the same name beside it.

    python -m recipes.curves PICTURE.png "two stages=runs/zoom-in" "one stage=runs/attention-sampling"

A fold's curves lie in ``training/*/curves`` of the output; every fold counts alike.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from zoomkern.training.curves import PANELS, read_curves
from zoomkern.visual import save_curves

Curve = list[tuple[float, float]]


def mean_curves(output: Path) -> tuple[dict[str, Curve], int]:
    """Mean of every figure by epoch over the folds of a cross-validation, and how many folds there are."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    folds = sorted(output.glob("training/*/curves"))
    if not folds:
        raise FileNotFoundError(f"{str(output)!r} holds no training/*/curves; name the output of a cross-validation")
    for folder in folds:
        for name, curve in read_curves(folder).items():
            for epoch, value in curve.items():
                values[name][epoch].append(value)
    means = {
        name: [(float(epoch), statistics.fmean(found)) for epoch, found in sorted(by_epoch.items())]
        for name, by_epoch in values.items()
    }
    return means, len(folds)


def main(words: list[str]) -> None:
    """Draw the picture, and write the table."""
    picture, runs = Path(words[0]), dict(word.split("=", 1) for word in words[1:])
    panels: dict[str, dict[str, Curve]] = {panel: {} for panel in PANELS}
    rows = [["run", "folds", "figure", "epoch", "mean"]]
    for run, output in runs.items():
        means, folds = mean_curves(Path(output))
        for panel, columns in PANELS.items():
            for label, name in columns.items():
                panels[panel] |= {f"{run}, {label}": means[name]} if name in means else {}
        for name in sorted(means):
            rows += [[run, str(folds), name, f"{epoch:g}", f"{mean:.5g}"] for epoch, mean in means[name]]
    save_curves(picture, {panel: curves for panel, curves in panels.items() if curves})
    with picture.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Accuracy against the share of the canvas that the needle fills: ``python -m recipes.ratio`` draws the needle study.

A run's folder in ``recipes/results/needle-ratio`` is called ``<network>-<side of the canvas>``; the share is that of
the data set in its configuration. Bars reach two standard errors to either side: of the mean over seeds, or of a share
of so many test images where that is larger.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from zoomkern.data.idx import DIGIT_SIDE
from zoomkern.visual import Point, save_lines

RESULTS = Path(__file__).parent / "results" / "needle-ratio"
PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "needle-ratio.png"
OPTION = "--data.test.init_args."


def object_ratio(run: Path) -> float:
    """Area of the needle over that of the test canvas, as the run's configuration tells."""
    configuration = json.loads((run / "configuration.json").read_text())
    (recipe,) = configuration["files"].values()
    given: dict[str, Any] = dict(yaml.safe_load(recipe)["data"]["test"]["init_args"])
    for option in configuration["options"]:
        if option.startswith(OPTION):
            name, value = option.removeprefix(OPTION).split("=", 1)
            given[name] = int(value)
    return float(given.get("object_side", DIGIT_SIDE) ** 2 / given["size"] ** 2)


def point(run: Path) -> Point:
    """Mean accuracy of a run's seeds in percent, and two standard errors of it."""
    folds = [json.loads(path.read_text()) for path in sorted((run / "folds").glob("*.json"))]
    shares = [fold["accuracy"] for fold in folds]
    mean = statistics.fmean(shares)
    images = len(folds) * len(folds[0]["probabilities"])
    seeds = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    error = 2 * max(seeds, math.sqrt(mean * (1 - mean) / images))
    return Point(100 * object_ratio(run), 100 * mean, 100 * max(mean - error, 0.0), 100 * min(mean + error, 1.0))


def lines(folder: Path = RESULTS) -> dict[str, list[Point]]:
    """Points of every network."""
    found = defaultdict(list)
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        found[run.name.rsplit("-", 1)[0]].append(point(run))
    return dict(found)


def main() -> None:
    """Draw the picture."""
    save_lines(
        PICTURE,
        lines(),
        x_label="area of the needle / area of the canvas (%)",
        y_label="accuracy (%)",
        levels={"chance": 50.0},
    )


if __name__ == "__main__":
    main()

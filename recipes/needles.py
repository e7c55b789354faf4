"""The needle study's pictures: ``python -m recipes.needles`` draws accuracy against the needle and the training set.

A run's folder in ``recipes/results/needle-ratio`` is called ``<network>-<side of the canvas>``, in ``needle-window``
``<network>-<receptive field>-<side of the canvas>``, where there is one beside the usual 17 pixels, and in
``recipes/results/needle-length`` ``<network>-<number of training canvases>``, whose canvases have a side of 48; what
is drawn is read from the run's configuration. Bars reach two standard errors to either side: of the mean over seeds,
or of a share of so many test images where that is larger.
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

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"


def canvases(run: Path, split: str) -> dict[str, Any]:
    """Arguments of a run's canvases, of ``images`` or of ``test``: the recipe's, and what its options changed."""
    configuration = json.loads((run / "configuration.json").read_text())
    (recipe,) = configuration["files"].values()
    given: dict[str, Any] = dict(yaml.safe_load(recipe)["data"][split]["init_args"])
    option = f"--data.{split}.init_args."
    changed = (text.removeprefix(option) for text in configuration["options"] if text.startswith(option))
    return given | {name: int(value) for name, value in (text.split("=", 1) for text in changed)}


def object_share(run: Path) -> float:
    """Area of the needle over that of the test canvas, in percent."""
    given = canvases(run, "test")
    return 100 * float(given.get("object_side", DIGIT_SIDE) ** 2 / given["size"] ** 2)


def training_canvases(run: Path) -> float:
    """How many canvases the run had to learn from, those that choose the epoch included."""
    return float(canvases(run, "images")["length"])


AREA = "area of the needle / area of the canvas (%)"

#: The runs of a study, what is on its axis, and how a run tells it.
STUDIES = {
    "needle-ratio": (["needle-ratio/*"], AREA, object_share),
    "needle-window": (["needle-window/*", "needle-ratio/bagnet-*"], AREA, object_share),
    "needle-length": (["needle-length/*", "needle-ratio/*-048"], "canvases to learn from", training_canvases),
}


def point(run: Path, x: float) -> Point:
    """Mean accuracy of a run's seeds in percent, and two standard errors of it."""
    folds = [json.loads(path.read_text()) for path in sorted((run / "folds").glob("*.json"))]
    shares = [fold["accuracy"] for fold in folds]
    mean = statistics.fmean(shares)
    images = len(folds) * len(folds[0]["probabilities"])
    seeds = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    error = 2 * max(seeds, math.sqrt(mean * (1 - mean) / images))
    return Point(x, 100 * mean, 100 * max(mean - error, 0.0), 100 * min(mean + error, 1.0))


def lines(study: str, results: Path = RESULTS) -> dict[str, list[Point]]:
    """Points of every network."""
    patterns, _, tell = STUDIES[study]
    found = defaultdict(list)
    for run in sorted(path for pattern in patterns for path in results.glob(pattern)):
        found[run.name.rsplit("-", 1)[0]].append(point(run, tell(run)))
    return dict(sorted(found.items()))


def main() -> None:
    """Draw the pictures."""
    for study, (_, label, _) in STUDIES.items():
        save_lines(
            FIGURES / f"{study}.png", lines(study), x_label=label, y_label="accuracy (%)", levels={"chance": 50.0}
        )


if __name__ == "__main__":
    main()

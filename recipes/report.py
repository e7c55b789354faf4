"""Tables of ``recipes/README.md`` from the folds in ``recipes/results``: ``python -m recipes.report``."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import t

ROOT = Path(__file__).parent
BEGIN, END = "<!-- results: {} -->", "<!-- /results -->"
DIFFERENCES = re.compile(r"(<!-- differences: (\S+) from (\S+) -->\n).*?(<!-- /differences -->)", re.DOTALL)
COLUMNS = {
    "accuracy": "epoch chosen on held-out training images",
    "last_accuracy": "last epoch",
    "optimistic_accuracy": "best epoch on the test images",
    "auc": "AUC",
}
COMPARED = {  # a heading, a factor, and digits
    "accuracy": ("accuracy", 100, 1),
    "last_accuracy": ("last epoch", 100, 1),
    "optimistic_accuracy": ("best epoch on the test images", 100, 1),
    "auc": ("AUC", 100, 1),
    "loss": ("test loss", 1, 3),
}
CHANCE = 0.05  # how often a difference that is none would be called one


def table(folder: Path) -> str:
    """A row for every run in a study's folder: mean and standard deviation over its folds, in percent."""
    runs = {path.name: _folds(path) for path in sorted(folder.iterdir())}
    shown = [name for name in COLUMNS if any(fold[name] is not None for folds in runs.values() for fold in folds)]
    lines = [f"| run | folds | {' | '.join(COLUMNS[name] for name in shown)} |", f"|---|---|{'---|' * len(shown)}"]
    for run, folds in runs.items():
        cells = [_spread([100 * fold[name] for fold in folds if fold[name] is not None]) for name in shown]
        lines.append(f"| {run} | {len(folds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(folder: Path, base: str) -> str:
    """A row for every other run: means of its differences from ``base``, fold by fold, with their standard errors.

    A star stands where a paired t-test calls the difference significant at 5 %. Folds of one set share most of what
    they learn from, so their differences are not independent; there the test's variance is the larger one of Nadeau &
    Bengio, Inference for the Generalization Error, Machine Learning 52, 2003.
    """
    runs = {path.name: {(fold["repetition"], fold["fold"]): fold for fold in _folds(path)} for path in folder.iterdir()}
    if base not in runs:
        raise ValueError(f"recipes/README.md names a run {base!r} that recipes/results/{folder.name} does not have")
    shown = {name: how for name, how in COMPARED.items() if any(fold[name] is not None for fold in runs[base].values())}
    headings = " | ".join(heading for heading, _, _ in shown.values())
    lines = [f"| run minus {base} | pairs | {headings} |", f"|---|---|{'---|' * len(shown)}"]
    others = max(fold for _, fold in runs[base])  # the folds that one learns from, each as large as that which tests
    for run, folds in sorted(runs.items()):
        pairs = [(fold, runs[base][place]) for place, fold in folds.items() if place in runs[base]]
        if run != base and pairs:
            cells = [
                _difference(
                    [factor * (a[name] - b[name]) for a, b in pairs if None not in (a[name], b[name])], digits, others
                )
                for name, (_, factor, digits) in shown.items()
            ]
            lines.append(f"| {run} | {len(pairs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(values: list[float], digits: int, others: int) -> str:
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+.{digits}f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    wider = error * math.sqrt(1 + len(values) / others) if others else error
    star = " *" if abs(mean) > t.isf(CHANCE / 2, len(values) - 1) * wider else ""
    return f"{mean:+.{digits}f} ± {error:.{digits}f}{star}"


def _folds(run: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(run.glob("folds/*.json"))]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def filled(page: str) -> str:
    """The page with every study's table between its marks, and the differences between runs where it asks for them."""
    for folder in sorted(path for path in (ROOT / "results").iterdir() if path.is_dir()):
        begin = BEGIN.format(folder.name)
        if begin not in page:
            raise ValueError(f"recipes/README.md has no line {begin!r} for recipes/results/{folder.name}")
        head, rest = page.split(begin, 1)
        page = f"{head}{begin}\n{table(folder)}\n{END}{rest.split(END, 1)[1]}"
    return DIFFERENCES.sub(
        lambda found: f"{found[1]}{differences(ROOT / 'results' / found[2], found[3])}\n{found[4]}", page
    )


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))

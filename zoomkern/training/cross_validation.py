"""Cross-validation that may be killed at any point: a file for every fold, and a table of those that are there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoomkern import checks
from zoomkern.images.files import alone, write_whole
from zoomkern.training.curves import read_curves
from zoomkern.training.data import ClassificationDataModule
from zoomkern.training.divisions import division_table, require_same_division
from zoomkern.training.processes import in_processes

#: Figures of a fold that the tables show, and what they are called there.
FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "last_accuracy": "accuracy, last epoch",
    "optimistic_accuracy": "accuracy, best epoch on the test fold",
}


class Fold(NamedTuple):
    """One training run of a cross-validation.

    Args:
        repetition: which division of the images, from 0.
        fold: which of its folds is the test set, from 0.
    """

    repetition: int
    fold: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"repetition-{self.repetition:02d}-fold-{self.fold:02d}"


def cross_validate(
    words: Sequence[str],
    folder: Path,
    num_folds: int,
    repetitions: int,
    processes: int = 1,
    threads: int = 0,
    report: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> list[str]:
    """Run every fold that has no result yet, and write the tables.

    Args:
        words: options of :class:`~zoomkern.training.run.Run`, ``--config`` among them.
        folder: where everything goes; a run that was killed goes on in it.
        num_folds: folds of a repetition; 1 keeps a set's own test split.
        repetitions: how often the images are divided anew, and the network starts from another seed.
        processes: folds that run at the same time.
        threads: processor threads of each, on which the last bits of a result depend; 0 shares all among them.
        report: called with the folds done, their number and a line of text after each.

    Returns:
        What went wrong, a line for each fold that failed; the others have their results all the same.

    Raises:
        SystemExit: options that do not fit; what is wrong was printed.
        OSError: another process works in the folder.
        ValueError: the folder holds a cross-validation of another configuration, or an argument does not fit.
    """
    checks.integer("folds", num_folds, 1)
    checks.integer("repetitions", repetitions, 1)
    checks.integer("processes", processes, 1)
    folds = [Fold(r, k) for r in range(repetitions) for k in range(num_folds)]
    each = checks.integer("threads", threads, 0) or max((os.cpu_count() or 1) // processes, 1)
    failures = []
    with alone(folder / ".lock"):
        run = _run(words, folder, folds[0], num_folds)  # what does not fit no fold need find out
        if not run.datamodule.has_test:
            raise ValueError("folds must be 2 or more for a set without test images of its own (data.test); got 1.")
        if run.trainer.world_size > 1:
            raise ValueError("a fold trains in one process. Give --trainer.devices=1, and --processes for several.")
        every, epochs = run.trainer.check_val_every_n_epoch or 1, run.trainer.max_epochs
        if not run.trainer.limit_val_batches or run.trainer.fast_dev_run or (0 <= (epochs or -1) < every):
            raise ValueError(
                "a fold's epoch is chosen by validation, of which these options of the trainer leave none."
            )
        _same_configuration(folder, words, num_folds)
        _same_images(folder, run.datamodule)
        missing = [fold for fold in folds if not _result_path(folder, fold).exists()]
        done = len(folds) - len(missing)
        report(done, len(folds), "")
        calls = {fold: (words, folder, fold, num_folds, each) for fold in missing}
        for fold, error in in_processes(run_fold, calls, processes):
            if error:
                failures.append(f"{fold.name}: {error}")
                continue
            done += 1
            write_tables(folder)
            accuracy = json.loads(_result_path(folder, fold).read_text())["accuracy"]
            report(done, len(folds), f"{fold.name}: accuracy {100 * accuracy:.1f} %")
        write_tables(folder)
    return failures


def run_fold(words: Sequence[str], folder: Path, fold: Fold, num_folds: int, threads: int) -> None:
    """Train on all folds but one, choose the epoch on held-out training images, test on the fold, write the result.

    The result has figures of the chosen and of the last epoch, the confusion matrix, and every test image's
    probabilities. A run of this fold that was interrupted goes on where it stood.

    Args:
        words: options of :class:`~zoomkern.training.run.Run`.
        folder: of the cross-validation.
        fold: which fold to test on.
        num_folds: folds of a repetition.
        threads: processor threads to use.
    """
    import torch

    torch.set_num_threads(threads)
    began = time.monotonic()
    run = _run(words, folder, fold, num_folds)
    with alone(folder / "training" / f".{fold.name}.lock", wait=True):  # the rest of one that was killed, perhaps
        if _result_path(folder, fold).exists():
            return
        run.fit(run.model, run.datamodule)
        run.load(run.folder.last)
        last = run.look("test")
        epoch = run.load(run.folder.best)
        chosen = run.look("test")
        watched = read_curves(run.folder.curves).get("watched_accuracy", {})
        result = {
            **fold._asdict(),
            "epoch": epoch,
            **{name: _figure(chosen[f"test_{name}"]) for name in ("loss", "accuracy", "balanced_accuracy", "auc")},
            "last_accuracy": last["test_accuracy"],
            "optimistic_accuracy": max(watched.values(), default=None),
            "seconds": time.monotonic() - began,
            "confusion": run.model.confused,
            "probabilities": run.probabilities(),
        }
        write_whole(_result_path(folder, fold), json.dumps(result))


def _run(words: Sequence[str], folder: Path, fold: Fold, num_folds: int) -> Any:
    """The training run of a fold, silent."""
    from zoomkern.training.order import mixed
    from zoomkern.training.run import Run, silence

    silence()
    seed = mixed(0, *fold) % 2**31
    own: dict[str, object] = {
        "folder": folder / "training" / fold.name,
        "resume": "true",
        "seed_everything": seed,
        "data.division": fold.repetition,
        "data.seed": seed,
        "trainer.enable_progress_bar": "false",
    }
    if num_folds > 1:
        own |= {"data.num_folds": num_folds, "data.fold": fold.fold}
    return Run([*words, *(f"--{name}={value}" for name, value in own.items())], command=False)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results that are there, in order of repetition and fold."""
    return [json.loads(path.read_text()) for path in sorted((folder / "folds").glob("repetition-*-fold-*.json"))]


def write_tables(folder: Path) -> None:
    """Write ``results.csv``, a row for each fold, and ``results.md``, with means and deviations beside them."""
    results = read_results(folder)
    if not results:
        return
    columns = ["repetition", "fold", "epoch", *FIGURES, "loss", "seconds"]
    rows = io.StringIO()
    table = csv.DictWriter(rows, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(results)
    write_whole(folder / "results.csv", rows.getvalue())
    write_whole(folder / "results.md", markdown(results))


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """A table of results: mean and standard deviation over all folds and over repetitions, then every fold.

    A figure that a fold has not, such as an area under the curve where its images are of one class, is left blank, and
    out of the means.
    """
    shown = {name: label for name, label in FIGURES.items() if any(row[name] is not None for row in results)}
    head = f"| | {' | '.join(shown.values())} |\n|---|{'---|' * len(shown)}\n"
    repetitions = sorted({result["repetition"] for result in results})
    there = {name: [result for result in results if result[name] is not None] for name in shown}
    every = {name: [result[name] for result in there[name]] for name in shown}
    means = {
        name: [
            statistics.fmean(values)
            for repetition in repetitions
            if (values := [result[name] for result in there[name] if result["repetition"] == repetition])
        ]
        for name in shown
    }
    lines = [_row(f"{len(results)} fold{'s' * (len(results) > 1)}", [_spread(every[name]) for name in shown])]
    if len(repetitions) > 1:
        lines += [_row(f"{len(repetitions)} repetitions", [_spread(means[name]) for name in shown])]
    for result in results:
        images = len(result["probabilities"])
        label = f"repetition {result['repetition']}, fold {result['fold']}, epoch {result['epoch']}, {images} images"
        lines.append(_row(label, ["" if result[name] is None else f"{100 * result[name]:.1f}" for name in shown]))
    return f"Percent, mean and standard deviation.\n\n{head}{''.join(lines)}"


def _figure(value: float) -> float | None:
    """None for what is not defined, as an area under the curve where all test images are of one class."""
    return None if math.isnan(value) else value


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cells)} |\n"


def _spread(values: Sequence[float]) -> str:
    deviation = f" +- {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{deviation}"


def _result_path(folder: Path, fold: Fold) -> Path:
    return folder / "folds" / f"{fold.name}.json"


def _same_configuration(folder: Path, words: Sequence[str], num_folds: int) -> None:
    """What the folds of one table have in common."""
    values = [word.rpartition("=")[2] for word in words]
    read = (".yaml", ".yml", ".csv", ".json")  # recipes, tables of images, fixed folds
    texts = {word: Path(word).read_text() for word in values if word.endswith(read) and Path(word).exists()}
    own = {"options": list(words), "files": texts, "num_folds": num_folds}
    path = folder / "configuration.json"
    if not path.exists():
        write_whole(path, json.dumps(own, indent=1))
    elif (before := json.loads(path.read_text())) != own:
        options = [word for word in before["options"] if word not in words]
        options += [word for word in words if word not in before["options"]]
        files = [name for name in texts if before["files"].get(name) != texts[name]]
        what = ", ".join(options or files or ["their order, or --folds"])
        raise ValueError(
            f"{str(folder)!r} holds a cross-validation with other options (see {path.name}): {what}. Give the same, or "
            "choose another --output."
        )


def _same_images(folder: Path, data: ClassificationDataModule) -> None:
    """The first fold's division is that of all, for all are made of the same images."""
    path = folder / "images.csv"
    if path.exists():
        require_same_division(path, data)
    else:
        write_whole(path, division_table(data))

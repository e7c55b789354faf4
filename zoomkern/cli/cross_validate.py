"""``zoomkern cross-validate``: folds and repetitions of a recipe, resumable, in one table."""

from __future__ import annotations

import argparse
import sys
from itertools import takewhile
from pathlib import Path

from zoomkern.cli.train import require_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options; all others go to the training runs, ``--config recipe.yaml`` first of all."""
    parser.add_argument("--output", type=Path, required=True, help="folder; a run that was killed goes on in it")
    parser.add_argument("--folds", type=int, default=10, help="of a repetition (default 10); 1: a set's own split")
    parser.add_argument("--repetitions", type=int, default=1, help="times that the images are divided anew (default 1)")
    parser.add_argument("--processes", type=int, default=1, help="folds at the same time (default 1)")
    parser.add_argument("--threads", type=int, default=0, help="of each process (default: all, shared among them)")


def run(args: argparse.Namespace) -> int:
    """Runs the folds that are missing and prints the table.

    Returns:
        0, or 1 where a fold failed, or 130 after Ctrl-C.
    """
    require_training()
    from tqdm import tqdm

    from zoomkern.training.cross_validation import cross_validate

    with tqdm(desc="folds", unit="fold", delay=1e-3) as bar:  # none before it is known that the options fit

        def report(done: int, total: int, text: str) -> None:
            bar.total = total
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        try:
            failures = cross_validate(
                args.others, args.output, args.folds, args.repetitions, args.processes, args.threads, report
            )
        except KeyboardInterrupt:
            bar.close()
            print(f"Interrupted: {bar.n} of {bar.total} folds are done; the same command goes on.", file=sys.stderr)
            return 130
    table = args.output / "results.md"
    if table.exists():
        print("\n".join(takewhile(lambda line: not line.startswith("| repetition "), table.read_text().splitlines())))
        print(f"Every fold: {table}")
    for failure in failures:
        print(f"failed: {failure}")
    return 1 if failures else 0

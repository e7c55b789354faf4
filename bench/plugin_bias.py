"""Bias of the gradient behind a logistic head against the number of draws, by exhaustive enumeration.

The pooled feature and its gradient are unbiased; behind a nonlinear head the mean of the gradient is not the gradient
at the mean, and differs by the order of the variance. This script adds up every draw there is and writes
``docs/figures/plugin_bias.png`` and ``plugin_bias.csv`` beside it: no number in them is a simulation.

    python bench/plugin_bias.py [--items 6] [--features 24] [--out docs/figures]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoomkern import testing

ROOT = Path(__file__).resolve().parent.parent
RULES = (
    ("replacement", "mean"),
    ("gumbel", "desraj"),
    ("gumbel", "murthy"),
    ("threshold", "inclusion"),
    ("two stages", "murthy"),
)
#: Items of a tile, where there are two stages.
INSIDE = 2
#: Logits per unit of concentration; the first few are used where there are fewer items.
SHAPE = (0.9, -0.7, 0.3, 1.6, -1.2, -0.2, 0.6, -1.3)
ATTENTION = {"diffuse": 0.3, "moderate": 1.0, "peaked": 3.0}
HEAD = (1.0, -0.7, 0.5)


class Row(NamedTuple):
    """One point of the plot.

    Args:
        attention: its name in :data:`ATTENTION`.
        sampler: what drew.
        estimator: what weighed.
        num_samples: draws.
        logits: ``|E[g] - g| / |g|`` of the gradient towards the logits, root mean square over features.
        features: the same towards the features.
    """

    attention: str
    sampler: str
    estimator: str
    num_samples: int
    logits: float
    features: float


def logistic(pooled: Tensor) -> Tensor:
    """Loss of a positive example behind a linear layer, ``[K]`` from ``[K, 3]``."""
    return torch.nn.functional.softplus(-(pooled @ pooled.new_tensor(HEAD)))


def measure(items: int, draws: Sequence[int], features: int, backend: str | None = None) -> Iterator[Row]:
    """A row for every attention, rule and number of draws; ``features`` random feature sets share each."""
    generator = torch.Generator().manual_seed(0)
    sets = torch.randn(features, items, len(HEAD), dtype=torch.float64, generator=generator)
    for name, concentration in ATTENTION.items():
        logits = (concentration * torch.tensor(SHAPE[:items], dtype=torch.float64)).requires_grad_()
        for sampler, estimator in RULES:
            for num_samples in draws:
                drawn = every_draw(logits, num_samples, sampler, estimator, backend)
                wrong, size = torch.zeros(2).double(), torch.zeros(2).double()
                for values in sets:
                    inputs = (logits, values.clone().requires_grad_())
                    true = testing.exact_gradients(logits.softmax(0), inputs[1], logistic, inputs)
                    mean = testing.expected_gradients(drawn, inputs[1], logistic, inputs, backend=backend)
                    wrong += torch.stack([(m - t).square().sum() for m, t in zip(mean, true, strict=True)])
                    size += torch.stack([t.square().sum() for t in true])
                bias = (wrong / size).sqrt().tolist()
                yield Row(name, sampler, estimator, num_samples, bias[0], bias[1])


def every_draw(logits: Tensor, num_samples: int, sampler: str, estimator: str, backend: str | None) -> testing.Draws:
    """All draws there are.

    In two stages tiles of neighbouring items are drawn with replacement, as ``ZoomIn`` does, and in each as many of its
    items as it was drawn, at most all; over the items the attention is the same.
    """
    if sampler != "two stages":
        return testing.enumerate_samples(logits, num_samples, sampler=sampler, estimator=estimator, backend=backend)
    inside = logits.reshape(-1, INSIDE)
    tiles = testing.enumerate_samples(inside.logsumexp(1), num_samples, sampler="replacement", backend=backend)
    merged, counts = testing.merge_draws(tiles)
    return testing.enumerate_inside(merged, inside, counts.clamp(max=INSIDE), estimator=estimator, backend=backend)


def plot(rows: Sequence[Row], items: int, path: Path) -> None:
    """One panel per attention, one line per rule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    styles = {
        "replacement": ("with replacement", "#98a2b3", "s"),
        "desraj": ("gumbel, Des Raj", "#e07a2f", "^"),
        "murthy": ("gumbel, Murthy", "#2f6fdb", "o"),
        "inclusion": ("threshold", "#1a936f", "D"),
        "two stages": (f"two stages, tiles of {INSIDE}", "#8a4fbf", "v"),
    }
    figure, axes = plt.subplots(1, len(ATTENTION), figsize=(11.5, 4.2), sharey=True, layout="constrained")
    for axis, (name, concentration) in zip(axes, ATTENTION.items(), strict=True):
        top = float((concentration * torch.tensor(SHAPE[:items])).softmax(0).max())
        for sampler, estimator in RULES:
            label, colour, marker = styles[sampler if sampler in styles else estimator]
            # Drawing everything leaves no variance; rounding error is no point of this plot.
            points = [
                (row.num_samples, 100 * row.logits)
                for row in rows
                if row[:3] == (name, sampler, estimator) and row.logits > 1e-10
            ]
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.8, label=label)
        axis.set_title(f"{name} attention, largest {top:.2f}", fontsize=11)
        axis.set_xlabel(f"draws of {items} items")
        axis.set_yscale("log")
        axis.grid(alpha=0.25, which="both", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("bias of the gradient towards the logits, %")
    axes[0].yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].legend(frameon=False, fontsize=9, loc="lower left")
    title = "Bias of the gradient behind a logistic head, by enumeration"
    figure.suptitle(f"{title}; Murthy and threshold have none at {items} draws", fontsize=12)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the CSV and the PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=6, choices=range(2, 9, INSIDE), help="items to draw from")
    parser.add_argument("--features", type=int, default=24, help="random feature sets to average over")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", help="folder to write into")
    options = parser.parse_args(arguments)
    most = min(options.items, 6)  # more draws with replacement are too many sequences
    rows = list(measure(options.items, range(1, most + 1), options.features))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "plugin_bias.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([*row[:4], *(f"{value:.6g}" if value > 1e-10 else "0" for value in row[4:])] for row in rows)
    plot(rows, options.items, options.out / "plugin_bias.png")
    print(f"wrote {options.out / 'plugin_bias.png'} and plugin_bias.csv, {len(rows)} rows")


if __name__ == "__main__":
    main()

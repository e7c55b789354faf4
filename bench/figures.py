"""The figures of ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.formats import seconds
from bench.network_tables import PARTS
from bench.report import FLOORS, figures_of

COLOURS = ("#0b6e99", "#d9822b", "#6b4c9a", "#888888")
#: As many as network_tables.PARTS: looking, drawing and reading, features, learning.
PART_COLOURS = (
    *("#b8c4cc", "#8a9ba8", "#1a936f", "#d9822b", "#e9b872", "#b5482f"),
    *("#0b6e99", "#6b4c9a", "#a48cc8", "#d8d8d8"),
)
ITEMS = {"L1e4": 1e4, "L1e6": 1e6, "L1e7": 1e7}


def draw(documents: Sequence[dict[str, Any]], folder: Path) -> None:
    """Writes the figures of each suite: of ratios, where it says nothing else."""
    folder.mkdir(exist_ok=True)
    kinds = {"sampling": (draw_ratios, draw_items), "models": (), "step": (draw_parts,)}
    for document in documents:
        for name, kind in zip(figures_of(document), kinds.get(document["suite"], (draw_ratios,)), strict=True):
            save(kind(document), folder / f"{name}.png")


def draw_ratios(document: dict[str, Any]) -> Figure:
    """A dot per rival and row, a tick where a goal is."""
    rows = document["rows"][::-1]
    figure = Figure(figsize=(8, 1.4 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    names = list(dict.fromkeys(e["name"] for r in rows[::-1] for e in r["against"] if e["ratio"] is not None))
    rivals = [name for name in names if name not in FLOORS]
    for name in names:
        points = [(e, y) for y, r in enumerate(rows) for e in r["against"] if e["name"] == name and e["ratio"]]
        floor = name in FLOORS
        colour = COLOURS[-1] if floor else COLOURS[rivals.index(name) % (len(COLOURS) - 1)]
        marker = "|" if floor else "osD^v"[rivals.index(name) // (len(COLOURS) - 1)]
        axes.plot(
            [e["ratio"] for e, _ in points],
            [y for _, y in points],
            marker,
            color=colour,
            ms=12 if floor else 7,
            mew=2 if floor else 0,
            label=name,
        )
        goals = [(e["goal"], y) for e, y in points if e["goal"] is not None]
        for goal, y in goals:
            axes.plot([goal, goal], [y - 0.32, y + 0.32], color=colour, lw=1.2, ls=(0, (2, 1)))
    axes.axvline(1, color="black", lw=0.8)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.45), max(high, 2.2))  # so that at least three ticks are named
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    kind = "bytes" if rows[0]["time"] is None else "time"
    axes.set_xlabel(f"their {kind} / zoomkern's: right of 1x zoomkern is better; dashed: the goal")
    finish(figure, axes)
    return figure


def draw_items(document: dict[str, Any]) -> Figure:
    """Time of one draw over the number of items."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[float, dict[str, float]]]] = {}
    for row in document["rows"]:
        sampler, _, tag = row["name"].partition("-")
        if tag not in ITEMS or sampler == "backward":
            continue
        lines.setdefault(f"zoomkern {sampler}", []).append((ITEMS[tag], row["time"]))
        if sampler == "gumbel":
            for entry in row["against"]:
                lines.setdefault(entry["name"], []).append((ITEMS[tag], entry["time"]))
    for name, points in lines.items():
        ours = name.startswith("zoomkern")
        main = name == "zoomkern gumbel"
        colour = COLOURS[0] if ours else COLOURS[1] if "multinomial" in name else COLOURS[2]
        x, times = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        axes.plot(
            x,
            [t["median"] * 1e3 for t in times],
            marker="o",
            ms=5,
            color=colour,
            lw=2 if main or not ours else 1,
            ls="-" if main or not ours else {"threshold": "--", "replacement": ":", "topk": "-."}[name.split()[1]],
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items L (B = 1, N = 64)")
    axes.set_ylabel("milliseconds per draw, median")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    finish(figure, axes)
    return figure


def draw_parts(document: dict[str, Any]) -> Figure:
    """A bar per step, its parts as shares of the whole."""
    rows = document["rows"][::-1]
    figure = Figure(figsize=(8, 1.4 + 0.5 * len(rows)))
    axes = figure.add_subplot()
    done = [0.0] * len(rows)
    names = [name for name in PARTS if any(name in row["parts"] for row in rows)]
    for name in names:
        shares = [100 * row["parts"].get(name, 0.0) / sum(row["parts"].values()) for row in rows]
        axes.barh(range(len(rows)), shares, left=done, height=0.6, color=PART_COLOURS[PARTS.index(name)], label=name)
        done = [before + share for before, share in zip(done, shares, strict=True)]
    labels = [f"{row['name']}\n{seconds(row['time']['median'])}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of a training step")
    finish(figure, axes)
    return figure


def finish(figure: Figure, axes: Axes) -> None:
    axes.grid(alpha=0.25, which="major")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})

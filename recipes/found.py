"""Does attention find the objects? Stage by stage, against even attention.

    python -m recipes.found RUN [RUN ...]      # folders of runs: config.yaml and weights.safetensors

Every test image with objects is looked at as a prediction does. A tile or patch holds an object where the object's
centre lies in it. Two figures for each stage: the share of what was drawn that holds one, and the rank that the
attention gives to the first place that does, 1 where the highest place holds it. Even attention draws a place of the
grid with equal probability, and puts the first of K places that hold an object among L at rank (L + 1) / (K + 1) in the
mean. The second stage is ranked inside drawn tiles that hold an object.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from zoomkern.functional import cell_offsets
from zoomkern.training.pictures import as_read
from zoomkern.training.run import Run
from zoomkern.training.weights import load_weights


class Look(NamedTuple):
    """What a stage found in one image, or in one tile.

    Args:
        drawn: share of the draws that hold an object.
        even: share of all places of the grid that do.
        rank: of the first place that does, None where none does.
        even_rank: of even attention, in the mean.
        places: of the grid.
    """

    drawn: float
    even: float
    rank: int | None
    even_rank: float
    places: int


def holds(places: Tensor, size: tuple[int, int], objects: Tensor) -> Tensor:
    """Which patches ``[N, 2]`` (top-left, y before x) of ``size`` have the centre of a box ``[K, 4]`` in them."""
    centre = torch.stack((objects[:, 1] + objects[:, 3], objects[:, 0] + objects[:, 2]), 1) / 2  # [K, 2], y before x
    inside = centre[None] - places[:, None]  # [N, K, 2]
    return ((inside >= 0) & (inside < torch.tensor(size))).all(2).any(1)


def moved_inside(places: Tensor, size: tuple[int, int], image: tuple[int, int]) -> Tensor:
    """Where patches of ``size`` that hang over the edge of ``image`` are read with ``padding_mode="shift"``."""
    return torch.minimum(places, torch.tensor(image) - torch.tensor(size)).clamp(min=0)


def look(attention: Tensor, index: Tensor, share: Tensor, held: Tensor) -> Look:
    """One stage's figures.

    Args:
        attention: logits of all ``L`` places.
        index: of the draws, -1 for padding.
        share: of every draw in all, adding up to 1.
        held: which of the ``L`` places hold an object.
    """
    order = attention.flatten().argsort(descending=True, stable=True)
    first = held[order].nonzero()
    number = int(held.sum())
    drawn = float(share[index >= 0].double() @ held[index[index >= 0]].double())
    rank = int(first[0]) + 1 if number else None
    return Look(drawn, number / len(held), rank, (len(held) + 1) / (number + 1), len(held))


class Finds(Callback):
    """Keeps what every stage found in every predicted image with objects.

    Attributes:
        looks: by the stage's name.
    """

    def __init__(self) -> None:
        self.looks: dict[str, list[Look]] = defaultdict(list)

    def on_predict_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Look at the images of a batch."""
        for row, objects in enumerate(batch.objects):
            if len(objects):
                self._add(task.model, outputs.output, row, batch)

    def _add(self, model: Any, out: Any, row: int, batch: Any) -> None:
        if not hasattr(out, "sampled"):
            raise ValueError(f"{type(model).__name__} must draw patches to find anything. Name runs whose networks do.")
        image, objects = as_read(batch.images[row], batch.objects[row], model)
        index = out.sampled.index[row]
        size, patch = _sides(image), tuple(model.reading.get("step", 1) * side for side in model.patch_size)

        def read(places: Tensor) -> Tensor:
            if model.reading.get("padding_mode") == "shift":
                places = moved_inside(places, patch, size)
            return holds(places, patch, objects)

        if not hasattr(out, "tiles"):
            places = _corners(out.attention[row], size, patch, model.reading.get("align", "center"))
            share = (index >= 0) / (index >= 0).sum()
            self.looks["patches"].append(look(out.attention[row], index, share, read(places)))
            return
        small = _sides(batch.tile_view[row])
        tiles = _corners(out.attention[row], small, model.view_size, model.align)
        tiles = (tiles * torch.tensor(size)).div(torch.tensor(small), rounding_mode="floor")
        tile_index, weight = out.tiles.index[row], out.tiles.weight[row]
        held = holds(tiles, model.tile_size, objects)
        self.looks["tiles"].append(look(out.attention[row], tile_index, weight, held))
        grids = out.tile_attention[row]  # [T, gh, gw]
        corners = _corners(grids[0], model.tile_size, patch, model.align)
        every = read((tiles[:, None] + corners).flatten(0, 1))
        drawn = every[index[index >= 0]]
        self.looks["sub-tiles"].append(Look(_mean(drawn), _mean(every), None, 0.0, len(every)))
        for tile in tile_index[tile_index >= 0].unique().tolist():
            own = every[tile * len(corners) : (tile + 1) * len(corners)]
            if own.any():
                slot = tile_index.tolist().index(tile)  # one of several where repetitions drew it again
                mine = index[(index >= 0) & (index // len(corners) == tile)] % len(corners)
                share = torch.full(mine.shape, 1 / len(mine))
                self.looks["sub-tiles of such tiles"].append(look(grids[slot], mine, share, own))


def _mean(held: Tensor) -> float:
    return held.double().mean().item()


def _sides(image: Any) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _corners(attention: Tensor, size: Any, extent: Any, align: str) -> Tensor:
    """Corners ``[L, 2]`` of what the cells of a grid stand for."""
    return cell_offsets(torch.arange(attention.numel())[None], _sides(attention), size, extent, align=align)[0]


def measure(folders: Sequence[str]) -> dict[str, list[Look]]:
    """The looks of all runs' networks at their test images."""
    finds = Finds()
    for folder in folders:
        run = Run([f"--config={Path(folder) / 'config.yaml'}", f"--folder={folder}"], command=False)
        load_weights(run.folder.weights, run.model.model)
        run.trainer.callbacks.append(finds)
        run.trainer.predict(run.model, datamodule=run.datamodule, return_predictions=False)
    return dict(finds.looks)


def table(looks: dict[str, list[Look]]) -> str:
    """A row for each stage, in Markdown: means of the shares, medians of the ranks."""
    lines = [
        "| stage | looks | drawn that hold an object | even draws | more than even | rank of the object | even rank |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, rows in looks.items():
        drawn, even = (100 * statistics.fmean(shares) for shares in ([r.drawn for r in rows], [r.even for r in rows]))
        more = sum(row.drawn > row.even for row in rows)
        ranked = [row for row in rows if row.rank is not None]
        ranks = ["", ""]
        if ranked:
            median = statistics.median(row.rank for row in ranked if row.rank is not None)
            ranks = [f"{median:g} of {ranked[0].places}", f"{statistics.median(row.even_rank for row in ranked):.0f}"]
        lines.append(f"| {stage} | {len(rows)} | {drawn:.1f} % | {even:.1f} % | {more} | {' | '.join(ranks)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(sys.argv[1:])))

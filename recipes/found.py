"""Does attention find the objects? The share of read patches that hold one, against patches placed evenly.

    python -m recipes.found RUN [RUN ...]      # folders of `zoomkern predict`, with config.yaml and predictions.csv

A patch holds an object where the object's centre lies in it. Only images with objects count. Evenly placed patches have
their centres at the middles of the squares of 5 x 5 pixels that tile the image.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoomkern.training.run import Run

EVENLY = 5


def holds(places: Tensor, size: tuple[int, int], objects: Tensor) -> Tensor:
    """Which patches ``[N, 2]`` (top-left, y before x) of ``size`` have the centre of a box ``[K, 4]`` in them."""
    centre = torch.stack((objects[:, 1] + objects[:, 3], objects[:, 0] + objects[:, 2]), 1) / 2  # [K, 2], y before x
    inside = centre[None] - places[:, None]  # [N, K, 2]
    return ((inside >= 0) & (inside < torch.tensor(size))).all(2).any(1)


def evenly(image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Top-left corners ``[M, 2]`` of patches whose centres tile the image."""
    y, x = (torch.arange(EVENLY / 2, side, EVENLY) - extent / 2 for side, extent in zip(image, size, strict=True))
    return torch.cartesian_prod(y, x)


def measure(folder: Path) -> tuple[list[float], list[float]]:
    """Of every test image with objects, the share of its patches that hold one, and that of even patches."""
    run = Run([f"--config={folder / 'config.yaml'}", f"--folder={folder}"], command=False)
    images = run.datamodule.sets["test"].images
    step = run.model.model.reading.get("step", 1)
    size = tuple(step * side for side in run.model.model.patch_size)
    number = {name: index for index, name in enumerate(images.names)}
    drawn, even = [], []
    with open(folder / "predictions.csv", newline="") as file:
        for row in csv.DictReader(file):
            index = number[row["image"]]
            objects = images.objects(index)
            if len(objects):
                places = torch.tensor([[int(n) for n in place.split()] for place in row["places"].split("; ")])
                drawn.append(holds(places, size, objects).double().mean().item())
                even.append(holds(evenly(images.size(index), size), size, objects).double().mean().item())
    return drawn, even


def main(folders: Sequence[str]) -> None:
    """Print the means over all images of all folders."""
    drawn, even = (sum(part, []) for part in zip(*(measure(Path(folder)) for folder in folders), strict=True))
    better = sum(a > b for a, b in zip(drawn, even, strict=True))
    print(
        f"{len(drawn)} images with objects: a patch that was read holds one in {100 * sum(drawn) / len(drawn):.1f} %,"
    )
    print(f"an evenly placed one in {100 * sum(even) / len(even):.1f} %; more often in {better} images.")


if __name__ == "__main__":
    main(sys.argv[1:])

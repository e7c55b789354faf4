"""What a network says of every image, as a table."""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from zoomkern.data.dataset import ImageSet


class Row(NamedTuple):
    """What is kept of an image.

    Args:
        probability: of every class.
        places: ``(y, x)`` of the patches that the scores are made of, in pixels of the image, or
            of the level of it that the network reads; empty where the network
            has no patches.
    """

    probability: list[float]
    places: list[tuple[int, int]]


class Predictions(Callback):
    """Keeps a row of every predicted image. Outputs hold patches besides, too many to be kept.

    Attributes:
        rows: by the image's place in its set; after a prediction those of all processes.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}

    def on_predict_start(self, *_: Any) -> None:
        """Forget what was predicted before."""
        self.rows = {}

    def on_predict_batch_end(self, trainer: Any, task: Any, outputs: Any, *_: Any) -> None:
        """Keep the rows of a batch."""
        patches = getattr(outputs.output, "sampled", outputs.output)
        for i, place in enumerate(outputs.index.tolist()):
            places = patches.offsets[i][patches.index[i] >= 0].tolist() if hasattr(patches, "offsets") else []
            self.rows[place] = Row(outputs.probability[i].tolist(), [(y, x) for y, x in places])

    def on_predict_epoch_end(self, trainer: Any, *_: Any) -> None:
        """Bring the rows of all processes together."""
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(parts, self.rows)
            self.rows = {place: row for part in parts for place, row in part.items()}


def predictions_table(images: ImageSet, rows: dict[int, Row]) -> str:
    """CSV: image, its label, the predicted class, each class's probability, places as ``y x; y x``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "label", "predicted", *images.classes, "places"])
    for place, row in sorted(rows.items()):
        predicted = images.classes[row.probability.index(max(row.probability))]
        places = "; ".join(f"{y} {x}" for y, x in row.places)
        label = images.classes[images.labels[place]]
        table.writerow([images.names[place], label, predicted, *row.probability, places])
    return text.getvalue()


def confusion_table(classes: list[str], counts: list[list[int]]) -> str:
    """CSV: a row for each true class, a column for each predicted one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["true \\ predicted", *classes])
    table.writerows([name, *row] for name, row in zip(classes, counts, strict=True))
    return text.getvalue()

"""A script: trains on the joint batch, alone or as one of two processes, and saves what came of it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import lightning as L
import small
import torch

from zoomkern.data import ImageSet
from zoomkern.training.data import ClassificationDataModule
from zoomkern.training.order import EpochBatches
from zoomkern.training.predictions import Predictions
from zoomkern.training.task import ClassificationTask

EPOCHS, BATCH, CLASS_WEIGHTS = 3, 4, [1.0, 3.0]


class Few(small.Squares):
    """One image in three has a square, so that some parts of a batch, and some batches, have none."""

    def __init__(self) -> None:
        super().__init__(23)
        ImageSet.__init__(self, self.classes, self.names, [int(i % 3 == 0) for i in range(23)])


class Curves(L.Callback):
    """Figures of every epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def data() -> ClassificationDataModule:
    """Fifteen training images, three for validation, five for the test; a last batch of three."""
    return ClassificationDataModule(
        Few(), num_folds=5, validation=0.15, view_scale=0.25, tile_scale=0.5, batch_size=BATCH
    )


def positives() -> list[list[int]]:
    """How many images with a square every process has, in every step of every epoch."""
    module = data()
    labels = Few().labels
    steps: list[list[int]] = []
    for epoch in range(EPOCHS):
        parts = []
        for rank in range(2):
            indices = module.indices["train"]
            batches = EpochBatches(indices, BATCH, 0, lambda epoch=epoch: (epoch, 0), rank, 2)
            parts.append([sum(labels[i] for i, _ in batch) for batch in batches])
        steps += [list(counts) for counts in zip(*parts, strict=True)]
    return steps


def main(folder: Path, processes: int) -> None:
    """Train, test, predict, save."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = ClassificationTask(
        small.network(),
        2,
        lambda parameters: torch.optim.SGD(parameters, 0.05),
        warmup=0,
        entropy=0.1,
        contrast=1.0,
        contrast_from=1,
        score_scale=5.0,
        class_weights=CLASS_WEIGHTS,
    )
    curves, predictions = Curves(), Predictions()
    several = {"strategy": "ddp", "devices": processes} if processes > 1 else {}
    trainer = small.trainer(folder, EPOCHS, callbacks=[curves, predictions], **several)
    trainer.fit(task, datamodule=data())
    figures = trainer.test(task, datamodule=data(), verbose=False)
    confused = task.confused
    trainer.predict(task, datamodule=data(), return_predictions=False)
    result = {
        "weights": task.state_dict(),
        "curves": curves.rows,
        "figures": figures,
        "confusion": torch.tensor(confused),
        "probabilities": {place: row.probability for place, row in sorted(predictions.rows.items())},
    }
    torch.save(result, folder / f"{processes}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

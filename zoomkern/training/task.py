"""Classification of very large images, as Lightning trains it."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from zoomkern import checks
from zoomkern.functional import gather_patches
from zoomkern.losses import attention_entropy, in_sample_contrastive
from zoomkern.training.annotations import annotation_loss
from zoomkern.training.batches import Batch, chosen
from zoomkern.training.means import Mean
from zoomkern.training.metrics import BalancedAccuracy, PresentAUROC

SCHEDULES = ("constant", "cosine")


class Prediction(NamedTuple):
    """What a network says of a batch.

    Args:
        index: int64 ``[B]``, places in the set.
        labels: int64 ``[B]``.
        probability: ``[B, K]``.
        output: what the network returned.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    labels: Tensor
    probability: Tensor
    output: Any


class Shares(NamedTuple):
    """Factors that make means over this process's images means over those of all processes.

    Args:
        images: of a mean over images.
        weights: of a mean weighted by class.
        positive: of a mean over positive images; None where no process has one.
    """

    images: float
    weights: float
    positive: float | None


class ClassificationTask(L.LightningModule):
    """Trains a network of :mod:`zoomkern.models` to classify.

    The loss is cross-entropy, minus ``entropy`` times the mean entropy of the attentions, plus ``contrast`` times the
    in-sample contrastive loss of the images that are not negative, from epoch ``contrast_from`` on. Means run over all
    images of a step, over all processes together; a batch norm is each process's own, unless Lightning is told to
    synchronise it.

    Args:
        model: takes what its attribute ``inputs`` names, of images, view and tile_view, and ``seed``; returns a tuple
            with ``scores [B, K]``.
        num_classes: number of classes ``K``.
        optimizer: made from the parameters.
        schedule: "constant", or "cosine" to fall to zero over all steps of the run.
        warmup: steps over which the learning rate rises.
        entropy: what a nat of the attention's entropy is worth; without effect where there is no attention over a grid.
        contrast: weight of the contrastive loss; 0 leaves it out.
        contrast_from: first epoch with it, counted from 0.
        contrast_to_negative: pushes towards the class ``negative`` instead of away from the image's own; with two
            classes that is the same.
        negative: class of images without an object; None where every class has one.
        supervision: what a nat between the attentions and annotated objects is worth, see
            :func:`~zoomkern.training.annotations.annotation_loss`; 0 leaves annotations unused. Its mean alone runs
            over each process's own images.
        score_scale: factor on the classifier's first weights. Features of unit length need one above 1 for confident
            scores.
        class_weights: weight of every class in the cross-entropy; None for 1.

    Attributes:
        confused: of the last test, how many images of every true class (rows) were taken for each (columns).

    Source:
        Kong & Henao, CVPR 2022: Adam 1e-4, entropy 1e-5, contrast from epoch 10.
    """

    model: Any  # a network's parts are its own
    class_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: str = "cosine",
        warmup: int = 20,
        entropy: float = 1e-5,
        contrast: float = 0.0,
        contrast_from: int = 10,
        contrast_to_negative: bool = False,
        negative: int | None = 0,
        supervision: float = 0.0,
        score_scale: float = 1.0,
        class_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        checks.integer("num_classes", num_classes, 2)
        scores: Any = model.classifier.out_features  # type: ignore[union-attr]
        if scores != num_classes:
            raise ValueError(
                f"num_classes must be one number for the task and its network; got {num_classes} in model.num_classes, "
                f"and {scores} in model.model.init_args.num_classes. Correct one of them."
            )
        self.model = model
        self.num_classes = num_classes
        self.optimizer = optimizer
        self.schedule = checks.choice("schedule", schedule, SCHEDULES)
        self.warmup = checks.integer("warmup", warmup, 0)
        self.entropy = entropy
        self.contrast = contrast
        self.contrast_from = contrast_from
        self.contrast_to_negative = contrast_to_negative
        if contrast_to_negative and negative is None:
            raise ValueError("contrast_to_negative needs the class of images without an object; give negative.")
        self.negative = negative
        self.supervision = supervision
        if contrast and not hasattr(model, "contrast"):
            raise ValueError(f"contrast needs a network with a contrastive pass; got {type(model).__name__}. Set it 0.")
        if supervision and not hasattr(model, "attention"):
            name = type(model).__name__
            raise ValueError(f"supervision needs a network with an attention over a grid; got {name}. Set it 0.")
        weights = None if class_weights is None else torch.tensor(class_weights)
        if weights is not None and len(weights) != num_classes:
            raise ValueError(f"class_weights must be {num_classes}, one for each class; got {len(weights)}.")
        self.register_buffer("class_weights", weights, persistent=False)
        with torch.no_grad():
            self.model.classifier.weight.mul_(score_scale)
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "balanced_accuracy": BalancedAccuracy(num_classes),
                "auc": PresentAUROC(num_classes),
            }
        )
        self.metrics = nn.ModuleDict({split: metrics.clone(prefix=f"{split}_") for split in ("val", "test")})
        names = ("train_loss", "train_contrast", "val_loss", "test_loss")
        self.means = nn.ModuleDict({name: Mean() for name in names})
        self.watched = MulticlassAccuracy(num_classes, average="micro")
        self.confusion = MulticlassConfusionMatrix(num_classes)
        self.confused: list[list[int]] = []

    def setup(self, stage: str) -> None:
        """Compare the number of classes and the tiles' scale with those of the images."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        own, made = getattr(self.model, "tile_scale", None), getattr(data, "tile_scale", None)
        if own is not None and data is not None and not math.isclose(own, 1.0 if made is None else made):
            raise ValueError(
                f"tile_scale must be one number for the network and its images; got {own} in "
                f"model.model.init_args.tile_scale, and {made} in data.tile_scale. Correct one of them."
            )
        classes = getattr(data, "classes", None)
        if classes is not None and len(classes) < 2:
            raise ValueError(f"a classifier needs images of two classes or more; these are all {classes[0]!r}.")
        if classes is not None and len(classes) != self.num_classes:
            raise ValueError(
                f"num_classes must be that of the images, {len(classes)} ({', '.join(map(str, classes))}); got "
                f"{self.num_classes}. Correct model.num_classes and model.model.init_args.num_classes."
            )

    def on_fit_start(self) -> None:
        """Warn where each process would normalise its own share of a batch; Lightning has synchronised by now."""
        if self.trainer.world_size > 1 and self.trainer.is_global_zero:
            norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
            if not all(isinstance(module, nn.SyncBatchNorm) for module in norms):
                warnings.warn(
                    f"Each of {self.trainer.world_size} processes normalises its own share of a batch: the network has "
                    "batch norms, and will learn something else than in one process. Give "
                    "--trainer.sync_batchnorm=true on GPUs; on processors there is none: train in one process.",
                    stacklevel=2,
                )

    def forward(self, batch: Batch) -> Any:
        """What the network says of a batch."""
        return self._call(self.model, batch)

    def _call(self, network: Any, batch: Batch) -> Any:
        batch = batch._replace(view=self._read(batch.view))
        return network(*(getattr(batch, name) for name in self.model.inputs), seed=batch.seed)

    def _read(self, view: Tensor) -> Tensor:
        """The view as the network's patches are read: the same mean, deviation and type."""
        whole = torch.zeros(view.shape[0], 1, 2, dtype=torch.int64, device=view.device)
        names = ("scale", "shift", "mean", "std", "dtype")
        reading = {name: value for name, value in self.model.reading.items() if name in names}
        return gather_patches(view, whole, (view.shape[-2], view.shape[-1]), **reading).squeeze(1)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The loss of a step."""
        torch.manual_seed(batch.noise)  # dropout: what a resumed run repeats
        out = self(batch)
        if self.contrast:
            _require_complements(out)
        positive = [i for i, label in enumerate(batch.classes) if label != self.negative]
        shares = self._shares(batch, len(positive))
        losses = F.cross_entropy(out.scores, batch.labels, self.class_weights)
        loss = shares.weights * losses - shares.images * self.entropy * self._entropy(out)
        self._mean("train_loss", losses, self._weight(batch))
        if self.supervision:
            loss = loss + shares.images * self.supervision * annotation_loss(batch, out, self.model)
        if self.contrast and self.current_epoch >= self.contrast_from and shares.positive is not None:
            loss = loss + self._contrast(batch, positive, shares.positive)
        return loss

    def _contrast(self, batch: Batch, positive: list[int], share: float) -> Tensor:
        loss = torch.zeros((), device=self.device)
        if positive:
            part = chosen(batch, positive)
            out = self._call(self.model.contrast, part)
            loss = in_sample_contrastive(out.scores, part.labels, self.negative, to_negative=self.contrast_to_negative)
        elif self.model.contrast_baseline is not None:  # another process has some, and its running mean is everyone's
            nothing = torch.zeros(0, self.model.classifier.in_features, device=self.device)
            self.model.contrast_baseline.update(nothing)
        self._mean("train_contrast", loss, len(positive))
        return share * self.contrast * loss

    def _weight(self, batch: Batch) -> Tensor | int:
        """What the images of a batch weigh in the cross-entropy."""
        return len(batch.classes) if self.class_weights is None else self.class_weights[batch.labels].sum()

    def _mean(self, name: str, value: Tensor, weight: Tensor | int) -> None:
        """Log the mean over an epoch and all processes."""
        mean: Any = self.means[name]
        mean.update(value.detach(), weight)
        shown = name in ("train_loss", "val_loss")
        self.log(name, mean, on_epoch=True, on_step=False, prog_bar=shown, batch_size=1, add_dataloader_idx=False)

    def _shares(self, batch: Batch, positive: int) -> Shares:
        world = self.trainer.world_size
        if world == 1:
            return Shares(1.0, 1.0, 1.0 if positive else None)
        counts = [len(batch.classes), float(self._weight(batch)), positive]
        here = torch.tensor(counts, dtype=torch.float64, device=self.device)
        everywhere = self.trainer.strategy.reduce(here.clone(), reduce_op="sum")
        factors = (world * here / everywhere).tolist()
        return Shares(factors[0], factors[1], factors[2] if everywhere[2] else None)

    def _entropy(self, out: Any) -> Tensor | float:
        """Mean entropy of the first attention, plus that of the second inside drawn tiles."""
        if not self.entropy or getattr(out, "attention", None) is None:
            return 0.0
        entropy = attention_entropy(out.attention).mean()
        if hasattr(out, "tile_attention"):
            drawn = out.tiles.index >= 0  # [B, T]
            inside = attention_entropy(out.tile_attention.flatten(0, 1)).view_as(drawn)
            entropy = entropy + (torch.where(drawn, inside, 0.0).sum(1) / drawn.sum(1)).mean()
        return entropy

    def validation_step(self, batch: Batch, step: int, dataloader_idx: int = 0) -> None:
        """Loss and metrics on the images that choose the epoch; the accuracy alone of test images that are watched."""
        if dataloader_idx == 0:
            self._look("val", batch)
            return
        self.watched.update(self(batch).scores, batch.labels)
        self.log("watched_accuracy", self.watched, add_dataloader_idx=False, batch_size=len(batch.classes))

    def on_test_epoch_start(self) -> None:
        """Each test has a confusion matrix of its own."""
        self.confusion.reset()

    def test_step(self, batch: Batch, step: int) -> None:
        """Loss and metrics on the test images."""
        self.confusion.update(self._look("test", batch), batch.labels)

    def on_test_epoch_end(self) -> None:
        """Count for all processes together, while the network is still on its device, as their messages are."""
        self.confused = self.confusion.compute().tolist()

    def _look(self, split: str, batch: Batch) -> Tensor:
        scores = self(batch).scores.float()
        loss = F.cross_entropy(scores, batch.labels)
        self._mean(f"{split}_loss", loss, len(batch.classes))
        metrics: Any = self.metrics[split]
        metrics.update(scores.softmax(1), batch.labels)
        self.log_dict(metrics, batch_size=len(batch.classes), add_dataloader_idx=False)
        return scores

    def predict_step(self, batch: Batch, step: int) -> Prediction:
        """Probabilities and what lies behind them."""
        out = self(batch)
        return Prediction(batch.index, batch.labels, out.scores.float().softmax(1), out)

    def configure_optimizers(self) -> Any:
        """The optimiser, and its learning rate as a function of the step."""
        optimizer = self.optimizer(self.parameters())
        total = max(self.trainer.estimated_stepping_batches, 1)

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / max(self.warmup, 1))
            return rise * (0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0)) if self.schedule == "cosine" else 1.0)

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def _require_complements(out: Any) -> None:
    """Attention over one place has no complement; better said before the first epoch than where contrast begins."""
    for name in ("attention", "tile_attention"):
        grid = list(getattr(out, name).shape[-2:])
        if math.prod(grid) < 2:
            raise ValueError(
                f"contrast needs 2 places or more in each attention; {name} has a grid of {grid}. Give its network a "
                "smaller pool or a larger view, or set contrast 0."
            )

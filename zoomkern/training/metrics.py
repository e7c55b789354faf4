"""Figures over the classes that are there: in a small or grouped fold one may be absent."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix
from torchmetrics.utilities.data import dim_zero_cat


class PresentAUROC(MulticlassAUROC):
    """Mean area under the curve of each class against the others, over classes that some images have and some have not.

    torchmetrics' own mean counts an absent class as 0.

    Args:
        num_classes: number of classes ``K``.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean; NaN where there is no such class."""
        labels = dim_zero_cat(self.target)
        counts = torch.bincount(labels, minlength=self.num_classes)
        present = (counts > 0) & (counts < len(labels))
        each: Tensor = super().compute()
        return each[present].mean()


class BalancedAccuracy(MulticlassConfusionMatrix):
    """Mean share of each class's images that are right, over classes that some images have.

    torchmetrics' macro accuracy counts an absent class as 0 as soon as an image is taken for it.
    """

    def compute(self) -> Tensor:
        """The mean; NaN where there is no image."""
        counts = super().compute().double()
        number = counts.sum(1)
        return (counts.diagonal() / number)[number > 0].mean().float()

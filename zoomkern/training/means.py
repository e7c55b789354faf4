"""Means over an epoch and over all processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """A weighted mean, ``sum w v / sum w``, in which NaN stays NaN and nothing waits for the device.

    Lightning's own (2.6) rounds the weights of several processes down; torchmetrics' (1.9) looks for NaN at every step.
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor | float) -> None:
        """Take a value into the mean."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean; NaN where nothing weighs anything."""
        return self.total / self.weight

"""Noise that falls while a network learns."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from zoomkern import checks
from zoomkern.models import PerturbedTopK


class FallingNoise(Callback):
    """Lets the noise of :class:`~zoomkern.models.PerturbedTopK` fall linearly, from the first epoch to the last.

    Much noise at first looks everywhere; at the end the network learns from patches as it will be given them when it
    is used, one place each.

    Args:
        first: the noise's standard deviation in the first epoch, in the unit of the logits.
        last: in the last epoch of ``trainer.max_epochs``.

    Raises:
        TypeError: another network is trained.
        ValueError: a deviation that is not positive.

    Source:
        Cordonnier et al., CVPR 2021, let it fall to 0.
    """

    def __init__(self, first: float, last: float) -> None:
        self.first = checks.number("first", first)
        self.last = checks.number("last", last)

    def on_train_batch_start(self, trainer: Any, task: Any, *_: Any) -> None:
        """The epoch's noise, a function of its number: a run that is resumed inside an epoch goes on with it."""
        if not isinstance(task.model, PerturbedTopK):
            raise TypeError(f"FallingNoise needs PerturbedTopK; got {type(task.model).__name__}. Leave it out.")
        share = trainer.current_epoch / max(trainer.max_epochs - 1, 1)
        task.model.sigma = (1 - share) * self.first + share * self.last

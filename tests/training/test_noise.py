"""Noise that falls while a network learns."""

import pytest

from zoomkern.training.noise import FallingNoise
from zoomkern.training.task import ClassificationTask


class Noted(FallingNoise):
    """Keeps what each epoch had."""

    def __init__(self, *args):
        super().__init__(*args)
        self.had = []

    def on_train_epoch_start(self, trainer, task):
        super().on_train_epoch_start(trainer, task)
        self.had.append(task.model.sigma)


def noises(small, folder, model, first, last, epochs=3):
    """The noise of every epoch of a training."""
    _, data = small.parts()
    noise = Noted(first, last)
    small.trainer(folder, epochs, callbacks=[noise]).fit(ClassificationTask(model, 2), datamodule=data)
    return noise.had


def test_noise_falls_from_the_first_epoch_to_the_last(small, tmp_path):
    assert noises(small, tmp_path, small.perturbed(), 0.5, 0.1) == pytest.approx([0.5, 0.3, 0.1])
    assert noises(small, tmp_path, small.perturbed(), 0.5, 0.1, epochs=1) == [0.5]


def test_another_network_has_no_such_noise(small, tmp_path):
    with pytest.raises(TypeError, match="FallingNoise needs PerturbedTopK; got IterativePatchSelection. Leave it out."):
        noises(small, tmp_path, small.selection(), 0.5, 0.1)


@pytest.mark.parametrize("deviations", [(0.0, 0.1), (0.5, -1.0)])
def test_deviations_are_positive(deviations):
    with pytest.raises(ValueError, match="must be positive and finite"):
        FallingNoise(*deviations)

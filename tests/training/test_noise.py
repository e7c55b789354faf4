"""Noise that falls while a network learns."""

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from zoomkern.training.noise import FallingNoise
from zoomkern.training.task import ClassificationTask


class Noted(FallingNoise):
    """Keeps what each epoch had."""

    def __init__(self, *args):
        super().__init__(*args)
        self.had = []

    def on_train_batch_start(self, trainer, task, *rest):
        super().on_train_batch_start(trainer, task, *rest)
        self.had.append(task.model.sigma)


def noises(small, folder, model, first, last, epochs=3, resume=None, **options):
    """The noise of every step of a training, three an epoch."""
    _, data = small.parts()
    noise = Noted(first, last)
    last = ModelCheckpoint(folder, "last", every_n_train_steps=1, enable_version_counter=False)
    trainer = small.trainer(folder, epochs, callbacks=[noise, last], enable_checkpointing=True, **options)
    trainer.fit(ClassificationTask(model, 2), datamodule=data, ckpt_path=resume, weights_only=True)
    return noise.had


def test_noise_falls_from_the_first_epoch_to_the_last(small, tmp_path):
    assert noises(small, tmp_path, small.perturbed(), 0.5, 0.1) == pytest.approx([0.5] * 3 + [0.3] * 3 + [0.1] * 3)
    assert noises(small, tmp_path, small.perturbed(), 0.5, 0.1, epochs=1) == [0.5] * 3


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_noise_falls_on_where_a_run_is_resumed_inside_an_epoch(small, tmp_path):
    assert noises(small, tmp_path, small.perturbed(), 0.5, 0.1, max_steps=4) == pytest.approx([0.5] * 3 + [0.3])
    resumed = noises(small, tmp_path, small.perturbed(), 0.5, 0.1, resume=tmp_path / "last.ckpt")
    assert resumed == pytest.approx([0.3] * 2 + [0.1] * 3)


def test_another_network_has_no_such_noise(small, tmp_path):
    with pytest.raises(TypeError, match="FallingNoise needs PerturbedTopK; got IterativePatchSelection. Leave it out."):
        noises(small, tmp_path, small.selection(), 0.5, 0.1)


@pytest.mark.parametrize("deviations", [(0.0, 0.1), (0.5, -1.0)])
def test_deviations_are_positive(deviations):
    with pytest.raises(ValueError, match="must be positive and finite"):
        FallingNoise(*deviations)

"""A run that is interrupted, anywhere, ends with the bits of one that is not."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

EPOCHS, STEPS = 4, 3  # nine training images in batches of four


class Interrupted(Exception):
    """What a kill leaves of a run: its last checkpoint."""


class StopAt(L.Callback):
    """Ends the run after a number of steps, before or after whatever else happens then."""

    def __init__(self, step: int, where: str) -> None:
        self.step = step
        setattr(self, where, self._stop)

    def _stop(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            raise Interrupted


def run(small, folder, stop=None, resume=None, every=1, averaged=False):
    task, data = small.parts()
    average = [EMAWeightAveraging(decay=0.9)] if averaged else []
    last = ModelCheckpoint(folder, "last", every_n_train_steps=every, enable_version_counter=False)
    callbacks = [*average, last, *([stop] if stop else [])]
    fit = small.trainer(folder, EPOCHS, callbacks=callbacks, enable_checkpointing=True)
    try:
        fit.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    except Interrupted:
        return None
    return task.state_dict(), fit.optimizers[0].state_dict(), fit.global_step


@pytest.fixture(scope="module")
def whole(small_module, tmp_path_factory):
    return run(small_module, tmp_path_factory.mktemp("whole"))


def cases():
    """Every step once, before its checkpoint or after it; checkpoints at every step, or at every second one."""
    for step in range(1, EPOCHS * STEPS):
        yield step, 1 + step % 2, "on_train_batch_start"
        yield step, 2 - step % 2, "on_train_batch_end"
    for epoch in range(1, EPOCHS):
        yield epoch * STEPS, 1 + epoch % 2, "on_validation_end"


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(("step", "every", "where"), cases())
def test_a_resumed_run_is_the_whole_run(small, whole, tmp_path, step, every, where):
    stop = StopAt(step, where)
    assert run(small, tmp_path, stop, every=every) is None
    last = tmp_path / "last.ckpt"
    state, optimizer, steps = run(small, tmp_path, resume=str(last) if last.exists() else None, every=every)
    assert steps == EPOCHS * STEPS
    for name, value in whole[0].items():
        assert torch.equal(value, state[name]), name
    for index, moments in whole[1]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, optimizer["state"][index][name])


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(("step", "every"), [(4, 1), (5, 2), (6, 1), (9, 1)])
def test_averaged_weights_are_resumed_too(small, tmp_path, step, every):
    state, optimizer, _ = run(small, tmp_path / "whole", averaged=True)
    plain, *_ = run(small, tmp_path / "plain")
    assert any(not torch.equal(value, plain[name]) for name, value in state.items())
    folder = tmp_path / "cut"
    assert run(small, folder, StopAt(step, "on_train_batch_start"), every=every, averaged=True) is None
    resumed, other, steps = run(small, folder, resume=str(folder / "last.ckpt"), every=every, averaged=True)
    assert steps == EPOCHS * STEPS
    for name, value in state.items():
        assert torch.equal(value, resumed[name]), name

"""A run of Lightning on a GPU: it learns, by the same numbers each time."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

import lightning as L

from tests.training import small
from zoomkern.images import PinnedImage
from zoomkern.training.batches import Batch

from .device import DEVICE, nothing_waits


def fit(folder: Path, task: L.LightningModule, data: L.LightningDataModule, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(task, datamodule=data)
    return trainer


def trained(folder: Path, workers: int = 0) -> torch.nn.Module:
    task, data = small.parts(small.Squares(24), num_workers=workers)
    assert fit(folder, task, data, max_epochs=6, deterministic=True).global_step == 6 * 5
    return task.model.cpu()


def test_a_run_gives_the_same_weights_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with worker processes, which may not touch the GPU."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        one, other = trained(tmp_path), trained(tmp_path, workers=2)
    finally:
        torch.use_deterministic_algorithms(False)
    weights, same = one.state_dict(), other.state_dict()
    assert all(torch.equal(weight, same[name]) for name, weight in weights.items())
    before = small.parts()[0].model.state_dict()
    assert not all(torch.equal(weight, before[name]) for name, weight in weights.items())


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_large_images_stay_in_host_memory(tmp_path: Path) -> None:
    task, data = small.parts(small.Large(6, 1 << 13), view_scale=None, view_size=(12, 12), batch_size=2)
    torch.cuda.reset_peak_memory_stats()
    fit(tmp_path, task, data, max_epochs=2)
    assert isinstance(data.sets["train"].plain(data.indices["train"][0]).image, PinnedImage)
    assert torch.cuda.max_memory_allocated() < 1 << 26, "an image was copied to the GPU"


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_no_step_waits_for_the_gpu(tmp_path: Path) -> None:
    """Neither for the contrastive loss of the positive images nor for where annotated objects lie."""
    task, data = small.parts(small.Squares(24))
    task.supervision, task.contrast_from = 1.0, 0
    step = task.training_step
    losses: list[torch.Tensor] = []

    def watched(batch: Batch, batch_idx: int) -> torch.Tensor:
        with nothing_waits() if losses else nullcontext():  # the first loads what is loaded once
            losses.append(step(batch, batch_idx))
        return losses[-1]

    task.training_step = watched
    fit(tmp_path, task, data, max_epochs=2)
    assert len(losses) == 2 * 5
    assert torch.stack(losses).isfinite().all()

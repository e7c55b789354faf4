"""A run of Lightning on a GPU: it learns, by the same numbers each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning")

import lightning as L

from tests.training import small

from .device import DEVICE


def trained(folder: Path, workers: int = 0) -> torch.nn.Module:
    task, data = small.parts(small.Squares(24), num_workers=workers)
    trainer = L.Trainer(
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
        max_epochs=6,
        deterministic=True,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 6 * 5
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

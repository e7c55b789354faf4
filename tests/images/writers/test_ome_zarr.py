"""What a killed run leaves in an OME-Zarr."""

from __future__ import annotations

import pytest
import torch

from zoomkern.images.readers import Header
from zoomkern.images.writers.ome_zarr import OmeZarr


def test_chunks_that_were_being_written_are_removed(tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    writer = OmeZarr(tmp_path / "copy", Header(((64, 64),), 3, torch.uint8, ((32, 32),)), 32)
    writer.start(None)
    unfinished = tmp_path / "copy" / "0" / "0" / "1" / "0.1fdb.partial"
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    writer.start(0)
    assert not unfinished.exists()
    assert (tmp_path / "copy" / "0" / ".zarray").exists()

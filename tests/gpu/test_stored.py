"""Images that stay on disk, read by a GPU through page-locked slots."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import Pyramid

from .device import DEVICE, moved


@pytest.mark.parametrize("reading", [{}, {"padding_mode": "shift", "step": 2, "dtype": torch.float16}])
def test_a_gpu_gets_what_the_host_reads(tmp_path, monkeypatch, reading):
    monkeypatch.setattr("zoomkern.images.staging.SLOT_BYTES", 50_000)  # so that slots are used again
    np.save(tmp_path / "image.npy", np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8))
    slide = Pyramid.open(tmp_path / "image.npy", where="disk")
    logits = torch.randn(1, 12, 18, generator=torch.Generator().manual_seed(0))
    host = zoomkern.sample_patches([slide], logits, 100, (40, 50), seed=7, **reading)
    device = zoomkern.sample_patches([slide], moved(logits), 100, (40, 50), seed=7, **reading)
    assert device.patches.device.type == DEVICE.type
    assert torch.equal(device.index.cpu(), host.index)
    assert torch.equal(device.offsets.cpu(), host.offsets)
    assert torch.equal(device.patches.cpu(), host.patches)


def test_batches_come_on_the_device(tmp_path):
    np.save(tmp_path / "image.npy", np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    slide = Pyramid.open(tmp_path / "image.npy", where="disk")
    offsets = torch.randint(-30, 380, (1, 50, 2), generator=torch.Generator().manual_seed(1))
    host = zoomkern.gather_patches([slide], offsets, 32)[0]
    batches = list(zoomkern.patch_batches([slide], moved(offsets), 32, 7))
    assert torch.equal(torch.cat(batches).cpu(), host)


def test_tiles_are_decoded_on_the_device(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    tifffile.imwrite(tmp_path / "image.tif", pixels, tile=(64, 96), compression="jpeg", photometric="rgb")
    offsets = torch.randint(-20, 300, (1, 60, 2), generator=torch.Generator().manual_seed(1))
    path = tmp_path / "image.tif"
    host = zoomkern.gather_patches([Pyramid.open(path, where="compressed")], offsets, 40)
    slide = Pyramid.open(path, where="compressed", decoder="nvimgcodec")
    device = zoomkern.gather_patches([slide], moved(offsets), 40)
    assert device.device.type == DEVICE.type
    assert (device.cpu() - host).abs().max() <= 2  # two decoders of JPEG round differently

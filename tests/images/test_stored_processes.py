"""Images on disk in the processes of a DataLoader: threads, caches and files are each process's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import zoomkern
from zoomkern.images import Pyramid

CONTEXTS = ["fork", pytest.param("forkserver", marks=pytest.mark.slow), pytest.param("spawn", marks=pytest.mark.slow)]


class Patches(Dataset[torch.Tensor]):
    """A patch of an image on disk for each number."""

    def __init__(self, pyramid: Pyramid, offsets: torch.Tensor) -> None:
        self.pyramid = pyramid
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> torch.Tensor:
        return zoomkern.gather_patches([self.pyramid], self.offsets[index][None, None], 32)[0, 0]


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    pixels = np.random.default_rng(3).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="deflate", photometric="rgb")
    return path


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("where", ["disk", "compressed"])
def test_worker_processes_read_the_same_bytes(slide, context, where):
    offsets = torch.randint(0, 260, (24, 2), generator=torch.Generator().manual_seed(0))
    patches = Patches(Pyramid.open(slide, where=where), offsets)
    here = [patches[i] for i in range(len(patches))]  # this process has threads, tiles and an open file
    loader = DataLoader(patches, batch_size=None, num_workers=2, multiprocessing_context=context)
    assert all(torch.equal(one, other) for one, other in zip(here, loader, strict=True))
    assert torch.equal(patches[0], here[0])


def test_threads_read_the_same_bytes(slide):
    from concurrent.futures import ThreadPoolExecutor

    offsets = torch.randint(0, 260, (200, 2), generator=torch.Generator().manual_seed(0))
    patches = Patches(Pyramid.open(slide, where="disk", cache=64 * 64 * 3 * 3), offsets)
    wanted = zoomkern.gather_patches([Pyramid.open(slide, where="resident")], offsets[None], 32)[0]
    with ThreadPoolExecutor(4) as pool:
        assert torch.equal(torch.stack(list(pool.map(patches.__getitem__, range(len(patches))))), wanted)

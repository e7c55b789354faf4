"""``ZOOMKERN_GATHER_MULTIPROCESSORS``: fewer blocks read the same patches, also beside other work."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from zoomkern import PinnedImage
from zoomkern.ops import backends

from .device import DEVICE

CAP = "ZOOMKERN_GATHER_MULTIPROCESSORS"


@pytest.fixture(autouse=True)
def _cuda() -> None:
    if DEVICE.type != "cuda":
        pytest.skip("asks CUDA")
    on, reason = backends.explain()["cuda"]
    if not on:
        pytest.skip(reason)


@pytest.mark.parametrize("pinned", [False, True], ids=["device", "page-locked"])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_a_capped_gather_on_a_side_stream_reads_the_same(
    count: int, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.randint(0, 256, (3, 700, 900), dtype=torch.uint8)
    places = torch.randint(-90, 900, (1, 64, 2))
    wanted = zoomkern.gather_patches([pixels], places, 100, mean=0.5, std=0.25)
    image, there = PinnedImage(pixels) if pinned else pixels.to(DEVICE), places.to(DEVICE)
    matrix = torch.randn(2048, 2048, device=DEVICE)
    product = matrix @ matrix
    side = torch.cuda.Stream()
    monkeypatch.setenv(CAP, str(count))

    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        given = zoomkern.gather_patches([image], there, 100, mean=0.5, std=0.25, backend="cuda")
    beside = matrix @ matrix
    torch.cuda.current_stream().wait_stream(side)

    assert torch.equal(given.cpu(), wanted)
    assert torch.equal(beside, product)


def test_a_word_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAP, "few")
    image = torch.zeros(3, 8, 8, device=DEVICE)
    with pytest.raises(RuntimeError, match="must be a positive number"):
        zoomkern.gather_patches([image], torch.zeros(1, 1, 2, dtype=torch.int64, device=DEVICE), 4, backend="cuda")

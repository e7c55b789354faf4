"""What the suites of a GPU share: page-locked images, and plain kernels on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from bench import workloads
from zoomkern import PinnedImage


@pytest.fixture(autouse=True)
def _gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --bench-device cuda")


@pytest.fixture
def link() -> object:
    from bench.gpu import link

    if link.compiler() is None:
        pytest.skip("needs nvcc on the PATH, to compile bench/gpu/ceilings.cu")
    return link


@pytest.fixture(scope="module")
def picture() -> Iterator[Callable[[int], PinnedImage]]:
    """An image ``[3, side, side]`` of random bytes, page-locked and made once for a suite."""
    made: dict[int, PinnedImage] = {}
    block = torch.randint(0, 256, (workloads.BLOCK,), dtype=torch.uint8)

    def make(side: int) -> PinnedImage:
        if side not in made:
            made[side] = workloads.picture(side, block)
            made[side].pin()
        return made[side]

    yield make
    made.clear()

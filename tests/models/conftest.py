"""What tests of several networks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Squares:
    """Images ``[B, 1, 64, 64]`` with one 8 x 8 object, plain or checked, and their 8 x 8 views, equal for both."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.randint(2, (number,), generator=self.generator)
        images = torch.zeros(number, 1, 64, 64, dtype=torch.uint8)
        checked = torch.tensor([[0, 254], [254, 0]], dtype=torch.uint8).repeat(4, 4)
        places = torch.randint(8, (number, 2), generator=self.generator)
        for image, label, (r, c) in zip(images, labels, places, strict=True):
            image[0, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8] = checked if label else 127
        return images, F.avg_pool2d(images.float(), 8) / 255, labels


@pytest.fixture
def squares() -> Squares:
    """Batches of the smallest task that needs full resolution."""
    return Squares()

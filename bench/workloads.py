"""What is measured: images, attention maps, places. One definition for every suite."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from zoomkern import PinnedImage

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCK = 1 << 24
GIGABYTE = 18944  # side of an image of 1.08 GB, whose rows need no padding
T = TypeVar("T")


def pictures(count: int, size: int) -> list[Tensor]:
    """``[3, size, size]`` uint8 views of resident images (HWC, huge pages), filled with random blocks."""
    block = torch.randint(0, 256, (min(BLOCK, size * size * 3),), dtype=torch.uint8)
    return [picture(size, block).tensor for _ in range(count)]


def picture(size: int, block: Tensor) -> PinnedImage:
    """``[3, size, size]`` uint8 (HWC, huge pages), filled with a block again and again."""
    image = PinnedImage.empty((3, size, size), torch.uint8, "HWC")
    rows = image.tensor.permute(1, 2, 0).flatten(1)
    for part in rows.split(max(len(block) // rows.shape[1], 1)):
        part.copy_(block[: part.numel()].view(part.shape))
    return image


def attention(*shape: int) -> Tensor:
    """Logits of a diffuse attention, so that the patches lie all over the image."""
    return torch.randn(shape)


def hot_attention(side: int, block: int, height: float) -> Tensor:
    """Logits ``[side, side]`` of an attention to one place: a block that stands out from a diffuse one."""
    logits = attention(side, side)
    logits[side // 3 :, side // 4 :][:block, :block] += height
    return logits


def places(count: int, draws: int, size: int, patch: int) -> Tensor:
    """Random offsets ``[count, draws, 2]`` of patches inside an image."""
    return torch.randint(0, size - patch + 1, (count, draws, 2))


def rotate(inputs: Sequence[T]) -> Callable[[], T]:
    """The next of the inputs at each call, so that no call finds the pixels of the last in its cache."""
    turning = itertools.cycle(inputs)
    return lambda: next(turning)

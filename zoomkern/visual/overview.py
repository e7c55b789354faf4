"""Large images made small enough to show."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def area_mean(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Make an image small by averaging, in bands of rows, so that no float copy of the whole is made.

    Args:
        image: ``[C, H, W]``, any pixel type, any strides.
        size: ``(h, w)`` wanted, not larger than the image; pixel ``(r, c)`` is the mean of the pixels that it covers
            wholly or in part.

    Returns:
        ``[C, h, w]`` float32, in the image's own units.

    Memory:
        The result and one band in float32, ``H / h`` rows high.
    """
    height, width = size
    if not (1 <= height <= image.shape[1] and 1 <= width <= image.shape[2]):
        raise ValueError(f"area_mean: size must lie between (1, 1) and {tuple(image.shape[1:])}; got {size}.")
    small = torch.empty(image.shape[0], height, width)
    for row in range(height):
        top, bottom = row * image.shape[1] // height, -(-(row + 1) * image.shape[1] // height)
        band = image[:, top:bottom].to(torch.float32)
        small[:, row] = F.adaptive_avg_pool2d(band, (1, width))[:, 0]
    return small


def overview_size(image_size: tuple[int, int], longest: int = 1200) -> tuple[int, int]:
    """The size ``(h, w)`` of an image whose longer side is made ``longest`` pixels; small images keep theirs."""
    factor = min(1.0, longest / max(image_size))
    return max(1, round(image_size[0] * factor)), max(1, round(image_size[1] * factor))

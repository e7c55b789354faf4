"""Whole images as one tensor, for networks that look at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoomkern.functional import gather_patches
from zoomkern.images.resolve import resolve_images
from zoomkern.typing import TABLE_COLUMNS, ImageBatch


def image_sizes(images: Tensor | Sequence[Tensor] | ImageBatch) -> list[tuple[int, int]]:
    """``(height, width)`` of each resolved image; of a table on a GPU this waits for the GPU."""
    if isinstance(images, ImageBatch):
        first = TABLE_COLUMNS.index("height")
        return [(height, width) for height, width in images.table[:, first : first + 2].tolist()]
    if isinstance(images, Tensor):
        return [(images.shape[2], images.shape[3])] * images.shape[0]
    return [(image.shape[1], image.shape[2]) for image in images]


def whole_images(
    images: Tensor | Sequence[Any] | ImageBatch, device: torch.device, *, level: int | None = None, **reading: Any
) -> Tensor:
    """Read whole images, pixels converted: one patch of the size of the image.

    Args:
        images: ``B`` images of one size, anything :func:`zoomkern.gather_patches` takes.
        device: where the networks are, and the images.
        level: level of the pyramids to read.
        **reading: further arguments of :func:`zoomkern.gather_patches`, such as ``mean``, ``std`` and ``dtype``.

    Returns:
        ``[B, C, H, W]``.

    Raises:
        ValueError: images of different sizes, or on another device.

    Memory:
        The result, which holds every pixel.
    """
    resolved = resolve_images(images, level, device)
    # an empty tensor has a size all the same
    sizes = {(resolved.shape[2], resolved.shape[3])} if isinstance(resolved, Tensor) else set(image_sizes(resolved))
    if not sizes:
        raise ValueError("images must have a size, for a network that reads them whole; got none. Pass [0, C, H, W].")
    if len(sizes) != 1:
        raise ValueError(
            f"images must have one size, for a network that reads them whole; got {sorted(sizes)}. "
            "Crop or resize them, or pass them in groups of one size."
        )
    count = len(resolved.ids) if isinstance(resolved, ImageBatch) else len(resolved)
    corner = torch.zeros(count, 1, 2, dtype=torch.int64, device=device)
    return gather_patches(resolved, corner, sizes.pop(), **reading).squeeze(1)

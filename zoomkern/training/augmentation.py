"""Augmentation of an image together with its views, from a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoomkern.images import Pyramid
from zoomkern.training.batches import Item


class Augmentation:
    """The symmetries of a rectangle, and random gains of the colours; image and views change alike.

    There are eight where the view is square, and four, without transposition, where it is not.

    A pixel ``v`` in [0, 255] becomes ``255 (v / 255)^g`` with ``log g`` normal: what a thicker or a thinner stain does
    to the light that comes through (Beer and Lambert). Integers go through a table of 256 entries.

    The image is copied: this is for images of some megapixels. Leave it out for larger ones; stored ones are refused.

    Args:
        symmetries: flip and transpose at random.
        colour: standard deviation of ``log g``, drawn for the image and for each channel.
    """

    def __init__(self, symmetries: bool = True, colour: float = 0.0) -> None:
        if not 0 <= colour < 10:
            raise ValueError(f"colour must be a standard deviation, not negative; got {colour}. Try 0.1.")
        self.symmetries = symmetries
        self.colour = colour

    def __call__(self, item: Item) -> Item:
        """``item`` changed as its own seed says."""
        generator = torch.Generator().manual_seed(item.seed)
        if isinstance(item.image, Pyramid):
            raise TypeError("augmentation copies images into memory; it cannot change stored ones. Leave it out.")
        coins = (torch.rand(3, generator=generator) < 0.5).tolist() if self.symmetries else [False] * 3
        coins[2] &= item.view.shape[-1] == item.view.shape[-2]
        gains = self.colour * torch.randn(1 + item.view.shape[0], generator=generator)
        exponents = (gains[0] + gains[1:]).exp()

        def change(image: Any) -> Tensor:
            pixels: Tensor = getattr(image, "tensor", image)
            turned = turn(pixels, *coins)
            return (coloured(turned, exponents) if self.colour else turned).contiguous()

        height, width = item.image.shape[-2:]
        objects, areas = (turn_boxes(boxes, (height, width), *coins) for boxes in (item.objects, item.areas))
        image, view = change(item.image), change(item.view)
        tile_view = image if item.tile_view is item.image else change(item.tile_view)
        return item._replace(image=image, view=view, tile_view=tile_view, objects=objects, areas=areas)


def turn(image: Tensor, mirror: bool, upside_down: bool, transpose: bool) -> Tensor:
    """``[C, H, W]`` mirrored left to right, then top to bottom, then transposed."""
    axes = [axis for axis, wanted in ((-1, mirror), (-2, upside_down)) if wanted]
    turned = image.flip(axes) if axes else image
    return turned.transpose(-1, -2) if transpose else turned


def turn_boxes(boxes: Tensor, size: tuple[int, int], mirror: bool, upside_down: bool, transpose: bool) -> Tensor:
    """``[K, 4]`` xyxy of an image of ``size = (H, W)``, turned as :func:`turn` turns it."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    if mirror:
        x0, x1 = size[1] - x1, size[1] - x0
    if upside_down:
        y0, y1 = size[0] - y1, size[0] - y0
    return torch.stack((y0, x0, y1, x1) if transpose else (x0, y0, x1, y1), -1)


def coloured(image: Tensor, exponents: Tensor) -> Tensor:
    """``255 (v / 255)^g`` with ``g = exponents[c]``; uint8 ``[C, H, W]``."""
    if image.dtype != torch.uint8:
        raise TypeError(f"colour needs uint8 images; got {image.dtype}. Set colour=0.")
    ramp = torch.arange(256) / 255
    tables = (255 * ramp ** exponents[:, None]).round().to(torch.uint8)
    result = torch.empty_like(image, memory_format=torch.contiguous_format)
    for plane, table, out in zip(image, tables, result, strict=True):
        # NumPy looks bytes up four times as fast as indexing by an int32 copy of them
        out.numpy()[...] = table.numpy()[plane.numpy()]
    return result

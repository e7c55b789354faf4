"""Where the tiles of a grid lie in a batch of images that are there at two scales."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoomkern.images.resolve import resolve_images
from zoomkern.models.whole_images import image_sizes
from zoomkern.reference.offsets import axis_offsets
from zoomkern.typing import TABLE_COLUMNS, ImageBatch


class TwoScales(NamedTuple):
    """A batch of images at full resolution and at the tiles' scale, and the grid over them.

    Args:
        images: full-resolution images as an op takes them.
        tile_images: the same images at the tiles' scale.
        sizes: int64 ``[B, 2]``, pixels of ``images``.
        tile_sizes: int64 ``[B, 2]``, pixels of ``tile_images``.
        grid: ``(Gh, Gw)``.
    """

    images: Any
    tile_images: Any
    sizes: Tensor
    tile_sizes: Tensor
    grid: tuple[int, int]


def two_scales(
    images: Any, tile_view: Any, logits: Tensor, scale: float, tile_size: tuple[int, int] = (1, 1)
) -> TwoScales:
    """The images at both scales, checked against each other and against the grid ``[B, Gh, Gw]`` of ``logits``.

    An image that is smaller than ``tile_size`` both ways is worth a warning.

    Raises:
        ValueError: not one image for each row of ``logits``, or ``tile_view`` is not ``scale`` times the images (which
            tables on a GPU do not tell).
    """
    full, small = (resolve_images(given, device=logits.device) for given in (images, tile_view))
    for name, given in (("images", full), ("tile_view", small)):
        count = given.table.shape[0] if isinstance(given, ImageBatch) else len(given)
        if count != logits.shape[0]:
            raise ValueError(f"{name} must be one for each of the {logits.shape[0]} of view; got {count}.")
    if not torch.compiler.is_compiling():
        _check_scale(full, small, scale)
        _warn_of_large_tiles(full, tile_size)
    sizes, tile_sizes = (_pixels(given, logits.device) for given in (full, small))
    return TwoScales(full, small, sizes, tile_sizes, (logits.shape[1], logits.shape[2]))


def offsets_of(index: Tensor, grid: tuple[int, int], pixels: Any, extent: tuple[int, int], align: str) -> Tensor:
    """As :func:`zoomkern.cell_offsets`, which looks at its arguments' values and so waits for a GPU."""
    columns = max(grid[1], 1)
    y = axis_offsets(index // columns, grid[0], pixels[0], extent[0], align)
    x = axis_offsets(index % columns, grid[1], pixels[1], extent[1], align)
    return torch.stack((y, x), -1)


def _host_sizes(images: Any) -> list[tuple[int, int]]:
    """``(height, width)`` of each image; a table on a GPU, which would have to be waited for, keeps them."""
    if isinstance(images, ImageBatch):
        return image_sizes(images) if images.table.device.type == "cpu" else []
    return [(image.shape[-2], image.shape[-1]) for image in ([images] if isinstance(images, Tensor) else images)]


def _pixels(images: Any, device: torch.device) -> Tensor:
    """``[B, 2]`` int64 sizes of the images on ``device``, which nothing waits for."""
    if isinstance(images, ImageBatch):
        first = TABLE_COLUMNS.index("height")
        return images.table[:, first : first + 2]
    if isinstance(images, Tensor):
        axes = [torch.full(images.shape[:1], size, dtype=torch.int64, device=device) for size in images.shape[2:]]
        return torch.stack(axes, 1)
    sizes = torch.tensor(_host_sizes(images), dtype=torch.int64).reshape(-1, 2)
    return sizes.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else sizes


def _warn_of_large_tiles(images: Any, tile_size: tuple[int, int]) -> None:
    """A tile that holds the whole image leaves its network nothing to choose."""
    for size in _host_sizes(images):
        if size[0] < tile_size[0] and size[1] < tile_size[1]:
            warnings.warn(
                f"tile_size {tile_size[0]} x {tile_size[1]} is larger than an image, {size[0]} x {size[1]} pixels: "
                "every tile holds all of it, and what hangs over its edges. Make tile_size smaller.",
                stacklevel=2,
            )
            return


def _check_scale(images: Any, tile_view: Any, scale: float) -> None:
    """``tile_view`` must be ``scale`` times the images, up to 2 pixels or 5 %."""
    for i, (full, small) in enumerate(zip(_host_sizes(images), _host_sizes(tile_view), strict=False)):
        wanted = [scale * side for side in full]
        if any(abs(side - want) > max(2.0, 0.05 * want) for side, want in zip(small, wanted, strict=True)):
            raise ValueError(
                f"tile_view must be the images at tile_scale = {scale}, {wanted[0]:.0f} x {wanted[1]:.0f} pixels for "
                f"images[{i}]; got {small[0]} x {small[1]}. Pass another level of the pyramid."
            )

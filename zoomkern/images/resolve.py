"""What a caller may pass as ``images``, turned into what an op takes."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.bank import descriptor
from zoomkern.images.pinned import PinnedImage, pixels_on
from zoomkern.images.pyramid import Pyramid
from zoomkern.images.readers import Reader
from zoomkern.images.stored import StoredLevel
from zoomkern.typing import PIXEL_DTYPES, TABLE_COLUMNS, ImageBatch, dtype_code


def resolve_images(
    images: Tensor | ImageBatch | Sequence[Tensor | PinnedImage | Pyramid | StoredLevel],
    level: int | None = None,
    device: torch.device | None = None,
) -> Tensor | list[Any] | ImageBatch:
    """The images as an op takes them, but for stored ones; nothing is copied.

    Args:
        images: ``[B, C, H, W]``, a sequence of ``[C, H, W]`` tensors, :class:`PinnedImage` and :class:`Pyramid` in any
            mixture, or the batch of an :class:`ImageBank`. A sequence has one ``C``, type and device.
        level: Of pyramids, the level to read; None for the finest.
        device: Where the op runs. On a CUDA device a :class:`PinnedImage`, also as a level, gives its view there.

    Returns:
        The tensor or the batch itself, or a list of ``[C, H, W]`` tensors and stored levels.

    Raises:
        TypeError: Something else is given, or pixel types differ or are no image's.
        RuntimeError: A PinnedImage has no view on ``device``.
        ValueError: Dimensions, channels or devices do not fit, or ``level`` does not.
    """
    if isinstance(images, Tensor):
        _check_no_level(level, "images", "a tensor")
        if images.ndim != 4:
            cure = "For one image pass images[None]" if images.ndim == 3 else "Reshape it, or pass a list of [C, H, W]"
            raise ValueError(f"images must be [B, C, H, W]; got shape {tuple(images.shape)}. {cure}.")
        _check_pixels(images, "images")
        return images
    if isinstance(images, ImageBatch):
        _check_no_level(level, "images", "an ImageBatch")
        columns = len(TABLE_COLUMNS)
        if not isinstance(images.table, Tensor) or not isinstance(images.ids, Tensor) or not images.images:
            raise TypeError("images must be a batch of an ImageBank; got an ImageBatch without tensors. Use bank[ids].")
        if images.table.dtype != torch.int64 or images.table.ndim != 2 or images.table.shape[1] != columns:
            raise ValueError(
                f"images.table must be int64 [B, {columns}]; got {images.table.dtype} {tuple(images.table.shape)}. "
                "Make the batch with bank[ids]."
            )
        if images.ids.dtype != torch.int64 or images.ids.shape != images.table.shape[:1]:
            raise ValueError(
                f"images.ids must be int64 [{images.table.shape[0]}], one for each row of images.table; "
                f"got {images.ids.dtype} {tuple(images.ids.shape)}. Make the batch with bank[ids]."
            )
        if not torch.compiler.is_compiling() and images.table.device.type == "cpu":
            _check_descriptors(images)
        return images
    if isinstance(images, (PinnedImage, Pyramid)):
        raise TypeError(f"images must be a batch; got one {type(images).__name__}. Wrap it in a list: [image].")
    if not isinstance(images, Sequence) or isinstance(images, (str, bytes)):
        raise TypeError(
            f"images must be a [B, C, H, W] tensor, a list of images or an ImageBatch; got {type(images).__name__}. "
            f"{_cure_for(images)}."
        )
    if len(images) == 0:
        raise ValueError(
            "images must hold at least one image; got none. For an empty batch pass a [0, C, H, W] tensor."
        )
    stored = any(_is_stored(image, level) for image in images)
    tensors = [_resolve_one(image, level, None if stored else device, f"images[{i}]") for i, image in enumerate(images)]
    for i, tensor in enumerate(tensors):
        _check_equal(tensors[0], tensor, f"images[{i}]")
    return tensors


def _check_descriptors(batch: ImageBatch) -> None:
    """The table must describe the images: one that came from another process, or by hand, points anywhere."""
    for b, (row, i) in enumerate(zip(batch.table.tolist(), batch.ids.tolist(), strict=True)):
        if not 0 <= i < len(batch.images) or tuple(row) != descriptor(batch.images[i], f"images.images[{i}]"):
            raise ValueError(
                f"images.table must describe images.images[{i}] in row {b}; it does not. Send the bank and the ids to "
                "another process rather than the batch or an image of it, and index there with bank[ids]."
            )
        if batch.images[i].requires_grad:
            raise ValueError(f"images.images[{i}] must not require a gradient, which a table cannot carry. Use a list.")


def any_stored(images: Tensor | Sequence[Any] | ImageBatch) -> TypeGuard[list[Any]]:
    """Whether resolved images have to be read before an op can take them."""
    return isinstance(images, list) and not all(isinstance(image, Tensor) for image in images)


def _is_stored(image: Any, level: int | None) -> bool:
    """Whether an image, or ``level`` of a pyramid, is stored; of a level that is wrong another place complains."""
    if isinstance(image, Tensor):
        return False
    if isinstance(image, StoredLevel):
        return True
    number = level or 0
    known = isinstance(image, Pyramid) and isinstance(number, numbers.Integral) and 0 <= number < image.level_count
    return known and isinstance(image.levels[int(number)], StoredLevel)


def _resolve_level(pyramid: Pyramid, level: int | None, device: torch.device | None, name: str) -> Tensor | StoredLevel:
    wanted = 0 if level is None else level
    if isinstance(wanted, bool) or not isinstance(wanted, numbers.Integral):
        raise TypeError(f"level must be an int; got {type(level).__name__}. Pass a number from 0, the finest.")
    if not 0 <= wanted < pyramid.level_count:
        sizes = ", ".join(f"{i}: {w} x {h}" for i, (w, h) in enumerate(pyramid.level_dimensions))
        raise ValueError(
            f"level must be from 0 to {pyramid.level_count - 1} for {name}; got {level}. There are {sizes}."
        )
    return pixels_on(pyramid.levels[int(wanted)], device)


def _resolve_one(image: Any, level: int | None, device: torch.device | None, name: str) -> Tensor | StoredLevel:
    tensor = image
    if not isinstance(image, Tensor):
        if isinstance(image, Pyramid):
            return _resolve_level(image, level, device, name)
        if isinstance(image, StoredLevel):
            _check_no_level(level, name, "a level already")
            return image
        tensor = pixels_on(image, device)
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name} must be a [C, H, W] tensor, a PinnedImage or a Pyramid; got {type(image).__name__}. "
            f"{_cure_for(image)}."
        )
    _check_no_level(level, name, f"a {type(image).__name__}")
    if tensor.ndim != 3:
        cure = (
            "Pass the batch itself rather than a list of it"
            if tensor.ndim == 4
            else "Add the channels with image[None]"
        )
        raise ValueError(f"{name} must be [C, H, W]; got shape {tuple(tensor.shape)}. {cure}.")
    _check_pixels(tensor, name)
    return tensor


def _check_pixels(image: Tensor, name: str) -> None:
    """``[B, C, H, W]`` or ``[C, H, W]`` must be dense, of a pixel type, and not empty; a batch may be."""
    checks.dense(name, image)
    if image.dtype not in PIXEL_DTYPES:
        dtype_code(image.dtype, name)
    if 0 in image.shape[-3:] and (image.ndim == 3 or image.shape[0] > 0):
        raise ValueError(f"{name} must hold at least one pixel; got shape {tuple(image.shape)}. Leave it out.")


def _check_no_level(level: int | None, name: str, what: str) -> None:
    if level is not None:
        raise ValueError(
            f"level must be left out: it chooses from pyramids; got {level}, and {name} is {what}. Drop it."
        )


def _check_equal(first: Tensor | StoredLevel, tensor: Tensor | StoredLevel, name: str) -> None:
    if tensor.shape[0] != first.shape[0]:
        raise ValueError(
            f"{name} must have {first.shape[0]} channels as images[0]; got shape {tuple(tensor.shape)}. "
            "Convert gray to colour or colour to gray."
        )
    if tensor.dtype != first.dtype:
        raise TypeError(
            f"{name} must be {first.dtype} as images[0]; got {tensor.dtype}. Convert it with .to({first.dtype})."
        )
    if tensor.device != first.device:
        raise ValueError(
            f"{name} must be on {first.device} as images[0]; got {tensor.device}. "
            f"Move it with .to({str(first.device)!r})."
        )


def _cure_for(image: Any) -> str:
    if isinstance(image, np.memmap):
        return "Map it without a copy with PinnedImage.from_memmap(array)"
    if hasattr(image, "__array_interface__"):
        return "Turn an array into an image with PinnedImage.from_numpy(array)"
    if isinstance(image, (str, bytes, Reader)) or hasattr(image, "__fspath__"):
        return "Open a file with Pyramid.open(path), or read it whole with PinnedImage.from_file(path)"
    if hasattr(image, "table"):
        return "Of an ImageBank pass bank[ids]"
    return "Convert it to tensors"

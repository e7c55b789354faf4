"""Masks from pixels without data, and from picture files. Every mask is True where one may look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.decode import open_picture, pixel_format
from zoomkern.images.pinned import MAX_PIXELS
from zoomkern.typing import dtype_code


def data_mask(image: Tensor, nodata: float | Sequence[float]) -> Tensor:
    """Where an image has data: not the value that a raster keeps for "nothing here".

    A pixel has data where any channel differs from ``nodata``. Pass a level as it was stored: an average of data and
    no-data is neither.

    Args:
        image: ``[C, h, w]``.
        nodata: the value, as in the file's header, or one per channel; NaN is a value too. One that the pixel type
            cannot hold marks nothing.

    Returns:
        bool ``[h, w]``, True where there is data.

    Memory:
        1 byte per pixel, and the image's channel for uint16.

    Raises:
        ValueError: the image is not ``[C, h, w]``, or has not as many channels as ``nodata`` values.
        TypeError: ``nodata`` is no number.
    """
    checks.tensor("image", image, "a tensor [C, h, w]")
    dtype_code(image.dtype, "image")
    if image.ndim != 3 or image.numel() == 0:
        raise ValueError(f"image must be [C, h, w] with at least one pixel; got {list(image.shape)}. Reshape it.")
    values = [nodata] * len(image) if isinstance(nodata, (int, float)) else list(nodata)
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise TypeError(f"nodata must be a number or one per channel; got {nodata!r}.")
    if len(values) != len(image):
        raise ValueError(f"nodata must have one value for each of {len(image)} channels; got {len(values)}.")
    has_data = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    for channel, value in zip(image, values, strict=True):
        has_data |= _differs(channel, float(value))
    return has_data


def user_mask(path: str | os.PathLike[str], *, above: float = 0.0, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A mask that somebody drew: True where a picture is neither black nor transparent.

    Args:
        path: a picture file of the whole image at any size.
        above: a pixel counts where its largest channel is above this; raise it for JPEG, whose black is not quite.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        bool ``[h, w]``.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is no picture, is damaged or too large.
    """
    with open_picture(Path(path), max_pixels) as picture:
        mode, _, _ = pixel_format(picture, Path(path))
        pixels = np.asarray(picture.convert(mode) if mode else picture)
    if mode == "RGBA":
        return torch.from_numpy((pixels[..., :3].max(-1) > above) & (pixels[..., 3] > 0))
    return torch.from_numpy((pixels.max(-1) if pixels.ndim == 3 else pixels) > above)


def _differs(channel: Tensor, value: float) -> Tensor:
    if value != value:
        return ~channel.isnan() if channel.is_floating_point() else torch.ones_like(channel, dtype=torch.bool)
    if not channel.is_floating_point():
        held = value.is_integer() and 0 <= value <= torch.iinfo(channel.dtype).max
        wide = channel.int() if channel.dtype == torch.uint16 else channel
        return wide != int(value) if held else torch.ones_like(channel, dtype=torch.bool)
    return channel != torch.tensor(value, dtype=channel.dtype, device=channel.device)

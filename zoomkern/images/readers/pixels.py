"""Pixels as files hold them, turned into the types and colours that images have here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

#: A type that images here do not have, and the smallest one that holds its values exactly.
_EXACT = {
    "bool": torch.uint8,
    "uint8": torch.uint8,
    "int8": torch.float32,
    "uint16": torch.uint16,
    "int16": torch.float32,
    "uint32": torch.float64,
    "int32": torch.float64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def pixel_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The pixel type that holds a file's values exactly.

    Raises:
        ValueError: There is none.
    """
    try:
        return _EXACT[dtype.name]
    except KeyError:
        raise ValueError(f"its pixels are {dtype.name}, which no image here has; save them as float32") from None


def as_pixels(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values of a file as :func:`pixel_dtype` says; bits become 0 and 255."""
    if values.dtype == np.bool_:
        return values.view(np.uint8) * np.uint8(255)
    wanted = str(pixel_dtype(values.dtype)).removeprefix("torch.")
    return values.astype(wanted, copy=False)


def white(dtype: torch.dtype) -> float:
    """The brightest value: that of the type for integers, 1 for floats."""
    return float(torch.iinfo(dtype).max) if not dtype.is_floating_point else 1.0


def background(channels: int, dtype: torch.dtype) -> float:
    """What lies outside of an image that does not say so: white for integer colour, else 0."""
    return white(dtype) if channels == 3 and not dtype.is_floating_point else 0.0


def on_white(
    colour: np.ndarray[Any, Any], alpha: np.ndarray[Any, Any], premultiplied: bool = False
) -> np.ndarray[Any, Any]:
    """``c a + w (1 - a)`` for a colour under opacity ``a`` in front of white ``w``, rounded to nearest.

    Args:
        colour: ``[..., C]``.
        alpha: ``[..., 1]`` of the same type; white of the type is opaque.
        premultiplied: whether the colour was multiplied by its opacity already.
    """
    top = white(pixel_dtype(colour.dtype))
    if not np.issubdtype(colour.dtype, np.integer):
        return (colour if premultiplied else colour * alpha) + (top - alpha) * colour.dtype.type(top)
    bright = np.uint64(top)
    if (alpha == bright).all():
        return np.ascontiguousarray(colour)
    opacity = np.uint64(1) * alpha
    light = colour * bright if premultiplied else colour * opacity
    return (
        np.minimum(light + (bright - opacity) * bright + bright // 2, bright * bright + bright // 2) // bright
    ).astype(colour.dtype)


def rgb_of_cmyk(inks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``(w - c)(w - k) / w`` of ``[..., 4]`` inks, rounded to nearest: colour without a profile."""
    bright = np.uint64(white(pixel_dtype(inks.dtype)))
    left = bright - inks.astype(np.uint64)
    return ((left[..., :3] * left[..., 3:] + bright // 2) // bright).astype(inks.dtype)

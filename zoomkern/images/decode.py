"""Image files through Pillow, decoded into rows of pixels."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

#: Pillow's own limit is one number for the whole process; ours is an argument.
_LIMIT_LOCK = threading.Lock()

#: Pixels that are converted at a time, about.
_BAND_PIXELS = 1 << 21

_COLOUR_MODES = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV")

_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


@contextmanager
def open_picture(path: Path, max_pixels: int, decode: bool = True) -> Iterator[Image]:
    """An image file, decoded and turned upright, or its header alone, as long as the context lasts.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be decoded or is larger than ``max_pixels``.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise ImportError("Reading image files needs Pillow: pip install 'zoomkern[data]'") from error
    if not path.is_file():
        raise FileNotFoundError(f"path must name an image file; got {str(path)!r}, which is none. Check the path.")
    try:
        with _LIMIT_LOCK:
            limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
            try:
                picture = PIL.Image.open(path)
            finally:
                PIL.Image.MAX_IMAGE_PIXELS = limit
    except PIL.UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise ValueError(f"{str(path)!r} is empty. Fetch or export it again.") from error
        raise ValueError(
            f"path must name an image that Pillow reads; got {str(path)!r}, which it does not know. "
            "Convert it to PNG, JPEG or TIFF, or read raw pixels with PinnedImage.from_memmap."
        ) from error
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    with picture:
        pixels = picture.width * picture.height
        if pixels > max_pixels:
            raise ValueError(
                f"max_pixels must be at least {pixels} for {str(path)!r} ({picture.width} x {picture.height}); "
                f"got {max_pixels}. Raise it if you trust the file."
            )
        try:
            if decode:
                picture.load()
                PIL.ImageOps.exif_transpose(picture, in_place=True)
        except MemoryError:
            raise
        except Exception as error:
            raise _damaged(path, error) from error
        yield picture


def _damaged(path: Path, error: Exception) -> ValueError:
    """The one error for whatever a format's parser met."""
    return ValueError(
        f"path must name a whole image; decoding {str(path)!r} failed: {error}. Fetch or export it again."
    )


def pixel_format(picture: Image, path: Path) -> tuple[str, int, torch.dtype]:
    """The Pillow mode to convert to ("" for none), the number of channels and the pixel type.

    Raises:
        ValueError: The pixels are integers beyond 16 bits, or of a colour space that Pillow cannot turn into RGB.
    """
    if picture.mode in _SIXTEEN_BIT_MODES:
        return "", 1, torch.uint16
    if picture.mode == "I":
        low, high = picture.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            raise ValueError(
                f"path must hold pixels from 0 to 65535; {str(path)!r} has {low} to {high}. "
                "Convert them to float32 and use PinnedImage.from_numpy."
            )
        return "", 1, torch.uint16
    if picture.mode == "F":
        return "", 1, torch.float32
    if picture.has_transparency_data:
        return "RGBA", 3, torch.uint8
    if picture.mode in ("1", "L"):
        return "L", 1, torch.uint8
    if picture.mode in _COLOUR_MODES:
        return "RGB", 3, torch.uint8
    raise ValueError(
        f"path must hold gray, RGB, palette, CMYK, YCbCr or HSV pixels; {str(path)!r} has {picture.mode}. "
        "Convert it to RGB with its own tool."
    )


def decode_into(picture: Image, mode: str, target: Tensor) -> None:
    """Converts a picture band by band into a ``[C, H, W]`` tensor; transparent pixels lie on white."""
    height, width = target.shape[1:]
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = picture.crop((0, top, width, bottom))
        pixels = np.asarray(band.convert(mode) if mode else band)
        if mode == "RGBA":
            pixels = _on_white(pixels)
        planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
        np.copyto(target[:, top:bottom].numpy(), planes, casting="unsafe")


def _on_white(rgba: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``(a c + (255 - a) 255) / 255`` for colour ``c`` under opacity ``a``, rounded to nearest."""
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)

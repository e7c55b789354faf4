"""Pictures that only decode as a whole: PNG, JPEG, WebP, BMP, through Pillow."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoomkern import checks
from zoomkern.images.decode import decode_into, open_picture, pixel_format
from zoomkern.images.pinned import MAX_PIXELS
from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.pixels import background
from zoomkern.images.readers.reader import Header, Reader

#: Tag of an EXIF block that says how the picture is turned; from 5 on, height and width change places.
_ORIENTATION, _FIRST_TURNED = 274, 5

#: Chunks of a PNG that are looked at for its EXIF block, and the bytes that such a block may have.
_MOST_CHUNKS, _MOST_EXIF = 1 << 18, 1 << 20


class PictureReader(Reader):
    """A picture, decoded into memory by its first window, once in every process that reads it.

    The orientation of its EXIF block is applied; palettes and CMYK become RGB; what is transparent lies on white.

    Args:
        path: The file.
        mpp: Microns per pixel.
        max_pixels: A picture whose header says more is refused.
    """

    def __init__(self, path: str | os.PathLike[str], *, mpp: float | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = checks.integer("max_pixels", max_pixels, 1)
        super().__init__(path, mpp=mpp)

    def _open(self) -> _Picture:
        library("PIL.Image", "slides")
        return _Picture()

    def _read_header(self, handle: _Picture) -> Header:
        with open_picture(self.path, self.max_pixels, decode=False) as picture:
            size = (picture.width, picture.height)
            if _orientation(picture, self.path) >= _FIRST_TURNED:
                size = size[::-1]
            if picture.mode == "I":  # whose range pixel_format looks up in the pixels
                channels, dtype = 1, torch.uint16
            else:
                _, channels, dtype = pixel_format(picture, self.path)
        return Header((size,), channels, dtype, (None,), background=background(channels, dtype))

    def _read_window(
        self, handle: _Picture, level: int, y: int, x: int, height: int, width: int
    ) -> np.ndarray[Any, Any]:
        with handle.lock:
            if handle.pixels is None:
                handle.pixels = self._decoded()
        return handle.pixels[y : y + height, x : x + width].copy()

    def _decoded(self) -> np.ndarray[Any, Any]:
        width, height = self.dimensions
        pixels = torch.empty(height, width, self.header.channels, dtype=self.header.dtype)
        with open_picture(self.path, self.max_pixels) as picture:
            mode, channels, dtype = pixel_format(picture, self.path)
            there = (picture.width, picture.height, channels, dtype)
            if there != (width, height, self.header.channels, self.header.dtype):
                raise ValueError(f"it has changed: {there} is not what its header was")
            decode_into(picture, mode, pixels.permute(2, 0, 1))
        return pixels.numpy()


def _orientation(picture: Any, path: Path) -> int:
    """How a picture is turned; a PNG is not decoded for it, as its own ``getexif`` would."""
    if picture.format == "PNG" and "exif" not in picture.info:
        late = _png_exif(path)
        if late is not None:
            picture.info["exif"] = late
    found: int = library("PIL.Image", "slides").Image.getexif(picture).get(_ORIENTATION, 1)
    return found


def _png_exif(path: Path) -> bytes | None:
    """The EXIF block of a PNG, which may follow the pixels; None where there is none."""
    with path.open("rb") as stream:
        place = 8
        for _ in range(_MOST_CHUNKS):
            stream.seek(place)
            head = stream.read(8)
            if len(head) < 8:
                break
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf" and length <= _MOST_EXIF:
                return b"Exif\0\0" + stream.read(length)
            place += 12 + length
    return None


class _Picture:
    """The pixels of a process, once decoded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pixels: np.ndarray[Any, Any] | None = None

"""Slides of every scanner that OpenSlide reads."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.pixels import on_white
from zoomkern.images.readers.reader import Header, Reader, ReadError
from zoomkern.images.readers.resolution import mean_mpp


class SlideReader(Reader):
    """A slide through OpenSlide, as RGB; what is transparent lies on white.

    OpenSlide keeps its own cache of decoded tiles and is safe among threads. It is asked in pixels of level 0: where a
    level's downsample is not whole, it blends neighbours, as if moved by up to half of such a pixel.
    """

    def _open(self) -> Any:
        openslide = _openslide()
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise ReadError(
                f"path must name a slide that OpenSlide reads; got {self.name}, which it does not know. "
                "Open it with zoomkern.open_image, or convert it to a tiled TIFF."
            ) from None

    def _read_header(self, handle: Any) -> Header:
        properties = dict(handle.properties)
        sizes = tuple((int(width), int(height)) for width, height in handle.level_dimensions)
        mpp = mean_mpp(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"))
        return Header(sizes, 3, torch.uint8, (None,) * len(sizes), mpp=mpp, properties=properties)

    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        downsample = handle.level_downsamples[level]
        place = (round(x * downsample), round(y * downsample))
        pixels = np.asarray(handle.read_region(place, level, (width, height)))
        return on_white(pixels[..., :3], pixels[..., 3:])


def slide_vendor(path: Path) -> str | None:
    """The scanner's maker as OpenSlide detects it; None where it, or OpenSlide, is unknown."""
    try:
        vendor: str | None = _openslide().OpenSlide.detect_format(path)
    except ImportError:
        return None
    return vendor


def _openslide() -> ModuleType:
    return library("openslide", "slides")

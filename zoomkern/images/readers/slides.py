"""Slides of every scanner that OpenSlide reads."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.pixels import on_white
from zoomkern.images.readers.reader import MAX_TILE_BYTES, Header, Reader, ReadError
from zoomkern.images.readers.resolution import mean_mpp
from zoomkern.images.readers.tiff_directories import MAGIC, check_directories
from zoomkern.images.readers.tiff_pages import pages_after_first

#: Of decoded tiles that OpenSlide keeps, for all slides of a process.
CACHE_BYTES = 1 << 26

_BYTE_COUNTS = (325, 279)  # of tiles and of strips


class SlideReader(Reader):
    """A slide through OpenSlide, as RGB; what is transparent lies on white.

    OpenSlide keeps its own cache of decoded tiles, one for all slides of a process, and is safe among threads. It is
    asked in pixels of level 0: where a level's downsample is not whole, it blends neighbours, as if moved by up to half
    of such a pixel.
    """

    def _open(self) -> Any:
        return open_slide(self.path)

    def _read_header(self, handle: Any) -> Header:
        return header_of_slide(handle)

    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        downsample = handle.level_downsamples[level]
        place = (round(x * downsample), round(y * downsample))
        pixels = np.asarray(handle.read_region(place, level, (width, height)))
        return on_white(pixels[..., :3], pixels[..., 3:])


def open_slide(path: Path) -> Any:
    """OpenSlide's handle.

    Raises:
        ReadError: OpenSlide does not know the file.
        ValueError: A tile would be larger than the file.
    """
    openslide = _openslide()
    _check_byte_counts(path)
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise ReadError(
            f"path must name a slide that OpenSlide reads; got {str(path)!r}, which it does not know. "
            "Open it with zoomkern.open_image, or convert it to a tiled TIFF."
        ) from None
    slide.set_cache(_cache(os.getpid()))
    return slide


@lru_cache(maxsize=1)
def _cache(process: int) -> Any:
    """Of decoded tiles; a forked child, which knows by its number that it is one, has another."""
    return _openslide().OpenSlideCache(CACHE_BYTES)


def header_of_slide(handle: Any) -> Header:
    """What OpenSlide says of a slide.

    Raises:
        ValueError: Its tiles are larger than any slide's.
    """
    properties = dict(handle.properties)
    _check_tiles(properties)
    sizes = tuple((int(width), int(height)) for width, height in handle.level_dimensions)
    mpp = mean_mpp(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"))
    return Header(sizes, 3, torch.uint8, (None,) * len(sizes), mpp=mpp, properties=properties)


def _check_tiles(properties: dict[str, str]) -> None:
    """OpenSlide ends the process when the memory for a tile is not there, so its size is looked at first."""
    for name, value in properties.items():
        if name.startswith("openslide.level[") and name.endswith("].tile-width"):
            width, height = int(value), int(properties.get(name.replace("width", "height"), "0"))
            if width * height * 4 > MAX_TILE_BYTES:
                raise ValueError(f"its tiles of {width} x {height} pixels take more than {MAX_TILE_BYTES} bytes")


def _check_byte_counts(path: Path) -> None:
    """Of a TIFF, what it says of the bytes of its tiles, for which OpenSlide allocates in the same way."""
    file = RawFile(path)
    if file.read(0, min(file.size, 4)) not in MAGIC:
        return
    check_directories(file)
    try:
        import tifffile
    except ImportError:
        return
    with tifffile.TiffFile(path) as tiff:
        for page in (tiff.pages[0], *pages_after_first(tiff, file)):
            for tag in _BYTE_COUNTS:
                counts = np.asarray(page.tags.valueof(tag, 0))
                if counts.size and int(counts.max()) > file.size:
                    raise ValueError(f"a tile says that it has {counts.max()} bytes, the file {file.size}")


def slide_vendor(path: Path) -> str | None:
    """The scanner's maker as OpenSlide detects it; None where it, or OpenSlide, is unknown."""
    try:
        vendor: str | None = _openslide().OpenSlide.detect_format(path)
    except ImportError:
        return None
    return vendor


def _openslide() -> ModuleType:
    return library("openslide", "slides")

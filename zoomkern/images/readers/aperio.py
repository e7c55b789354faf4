"""Aperio's slides (SVS), whose levels are plain tiled directories of a TIFF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoomkern.images.readers.reader import Header, ReadError
from zoomkern.images.readers.slides import header_of_slide, open_slide, slide_vendor
from zoomkern.images.readers.tiff import TiffReader


class AperioReader(TiffReader):
    """An SVS file: OpenSlide tells what it is, its tiles are read like those of any TIFF.

    So they can be had one by one and kept as they are, and levels are not blended. A slide whose levels OpenSlide sees
    otherwise, or that lacks tiles, which OpenSlide makes up from coarser levels, is for
    :class:`~zoomkern.images.readers.slides.SlideReader`.
    """

    def _read_header(self, handle: Any) -> Header:
        header = super()._read_header(handle)
        with open_slide(self.path) as slide:
            said = header_of_slide(slide)
        if said.level_dimensions != header.level_dimensions:
            raise ValueError(f"it has the levels {header.level_dimensions}, and to OpenSlide {said.level_dimensions}")
        if not all(plane.offsets.all() and plane.counts.all() for planes in handle.levels for plane in planes):
            raise ValueError("it lacks tiles")
        return header._replace(mpp=said.mpp, properties={**header.properties, **said.properties})


def is_plain_aperio(file: Path) -> bool:
    """Whether a slide is Aperio's, and :class:`AperioReader` reads it."""
    if slide_vendor(file) != "aperio":
        return False
    try:
        AperioReader(file)
    except (ReadError, ImportError):
        return False
    return True

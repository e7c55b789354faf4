"""How a folder is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Options(NamedTuple):
    """How a folder is looked at.

    Args:
        seed: of the draws; an image's own depends on it and on the image's name alone.
        mpp: microns per pixel of all images, whatever their files say.
        mpp_table: CSV file ``image,mpp``.
        mask: "none", "tissue", or a folder with a GeoJSON file per image.
        top: patches that pictures show, the heaviest; 0 writes no pictures.
        most_view_pixels: pixels of a view, at most.
        skip_errors: go on behind an image that fails.
        overwrite: predict what is done, too.
        most_picture_pixels: pixels of a file that is decoded as a whole (PNG, JPEG, WebP, BMP), at most.
        most_starts: an image that was begun so often without an end, as it ends the process, fails.
    """

    seed: int = 0
    mpp: float | None = None
    mpp_table: Path | None = None
    mask: str = "none"
    top: int = 20
    most_view_pixels: int = 1 << 24
    skip_errors: bool = True
    overwrite: bool = False
    most_picture_pixels: int = 1 << 28
    most_starts: int = 2

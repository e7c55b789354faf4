"""What the directories of a TIFF file say: its levels, and where their tiles lie."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.tiff_directories import MOST_DIRECTORIES

#: Levels of the largest pyramid.
_MOST_LEVELS = 64

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType

#: How far, in pixels, the sides of a level may be from those that its downsample asks for.
_ROUNDING = 1.5


class Plane(NamedTuple):
    """The tiles, or strips, of one directory at one size.

    Args:
        width: in pixels.
        height: in pixels.
        tile: ``(height, width)`` of a tile; of a strip the width is that of the image.
        tiled: false for strips.
        samples: of a pixel.
        planar: whether each sample has tiles of its own.
        offsets: of the tiles in the file; 0 for one that is left out.
        counts: their bytes.
        decode: from tifffile: bytes and index to pixels.
        tables: what the JPEG tiles share.
        compression: TIFF's number.
        raw: whether rows of pixels lie in the file as they are.
        dtype: of the samples in the file, in its byte order.
    """

    width: int
    height: int
    tile: tuple[int, int]
    tiled: bool
    samples: int
    planar: bool
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    counts: np.ndarray[Any, np.dtype[np.int64]]
    decode: Callable[..., Any]
    tables: bytes | None
    compression: int
    raw: bool
    dtype: np.dtype[Any]

    @property
    def across(self) -> int:
        """Tiles along the width."""
        return -(-self.width // self.tile[1])

    @property
    def down(self) -> int:
        """Tiles along the height."""
        return -(-self.height // self.tile[0])


def pyramid_pages(base: Any, following: list[Any]) -> list[Any]:
    """The directories of an image's levels, from the finest: its SubIFDs, else the smaller pages that follow."""
    pages = [base]
    for page in base.pages or () if base.subifds else following:
        page = page.aspage()
        if _is_level(page, base, pages[-1]):
            pages.append(page)
    if len(pages) > _MOST_LEVELS:
        raise ValueError(f"it has {len(pages)} levels; no pyramid has so many")
    return pages


def pages_after_first(tiff: Any, file: RawFile) -> list[Any]:
    """The other directories of a file.

    Raises:
        ValueError: Their chain leads back to one of them, or out of the file, which was cut then.
    """
    pages, offsets = [tiff.pages[0]], {tiff.pages[0].offset}
    for index in range(1, MOST_DIRECTORIES):
        try:
            page = tiff.pages[index].aspage()
        except IndexError:
            break
        if page.offset in offsets:
            raise ValueError("its directories go in a circle")
        offsets.add(page.offset)
        pages.append(page)
    link = _next_offset(tiff.tiff, file, pages[-1].offset)
    if link >= file.size:
        raise ValueError("its directories lead beyond its end; it was cut")
    return pages[1:]


def _next_offset(form: Any, file: RawFile, offset: int) -> int:
    """Where the directory after the one at ``offset`` starts; 0 for none."""
    (count,) = struct.unpack(form.tagnoformat, file.read(offset, form.tagnosize))
    data = file.read(offset + form.tagnosize + count * form.tagsize, form.offsetsize)
    return int(struct.unpack(form.offsetformat, data)[0])


def _is_level(page: Any, base: Any, above: Any) -> bool:
    same = all(
        getattr(page, name) == getattr(base, name)
        for name in ("dtype", "samplesperpixel", "bitspersample", "extrasamples")
    )
    smaller = 0 < page.imagewidth <= above.imagewidth and 0 < page.imagelength <= above.imagelength
    smaller = smaller and (page.imagewidth, page.imagelength) != (above.imagewidth, above.imagelength)
    if not same or not smaller or page.subfiletype & _MASK or (base.is_tiled and not page.is_tiled):
        return False
    if not page.subfiletype & _REDUCED and not (page.is_tiled and _is_halved(page, above)):
        return False
    downsample = math.sqrt(base.imagewidth / page.imagewidth * base.imagelength / page.imagelength)
    shape = abs(base.imagewidth / downsample - page.imagewidth), abs(base.imagelength / downsample - page.imagelength)
    return max(shape) <= _ROUNDING


def _is_halved(page: Any, above: Any) -> bool:
    """Whether a page that does not call itself reduced is the one above by 2, 4, 8, ...: else it is another picture."""
    factor = 2.0 ** max(round(math.log2(above.imagewidth / page.imagewidth)), 1)
    sides = (above.imagewidth / factor - page.imagewidth, above.imagelength / factor - page.imagelength)
    return max(map(abs, sides)) <= _ROUNDING


def plane_of(page: Any) -> Plane:
    """The tiles of a directory.

    Raises:
        ValueError: It has fewer tiles than its size asks for, or sizes that no image has.
    """
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise ValueError(f"it is a volume of {page.imagedepth} planes; export one of them")
    if min(page.imagewidth, page.imagelength, page.samplesperpixel) < 1:
        raise ValueError(f"it has {page.imagewidth} x {page.imagelength} pixels of {page.samplesperpixel} samples")
    if page.dtype is None:
        raise ValueError(f"its samples have {page.bitspersample} bits of format {page.sampleformat}")
    tiled = bool(page.is_tiled)
    tile = (page.tilelength, page.tilewidth) if tiled else (page.rowsperstrip, page.imagewidth)
    if min(tile) < 1:
        raise ValueError(f"its tiles have {tile[1]} x {tile[0]} pixels")
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    across, down = -(-page.imagewidth // tile[1]), -(-page.imagelength // tile[0])
    needed = across * down * (page.samplesperpixel if planar else 1)
    offsets = np.asarray(page.dataoffsets, np.uint64).astype(np.int64)
    counts = np.asarray(page.databytecounts, np.uint64).astype(np.int64)
    if min(len(offsets), len(counts)) < needed:
        raise ValueError(f"it lists {min(len(offsets), len(counts))} of its {needed} tiles or strips")
    whole_bytes = isinstance(page.bitspersample, int) and page.bitspersample == 8 * page.dtype.itemsize
    raw = not tiled and page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and whole_bytes
    return Plane(
        page.imagewidth,
        page.imagelength,
        tile,
        tiled,
        page.samplesperpixel,
        planar,
        offsets,
        counts,
        page.decode,
        page.jpegtables,
        int(page.compression),
        raw,
        page.dtype.newbyteorder(page.parent.byteorder),
    )

"""Which reader reads a file: by what it holds, not by what it is called."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from zoomkern.images.readers.aperio import AperioReader, is_plain_aperio
from zoomkern.images.readers.arrays import ArrayReader
from zoomkern.images.readers.converted import MAGIC, ConvertedReader
from zoomkern.images.readers.pictures import PictureReader
from zoomkern.images.readers.reader import Reader, ReadError
from zoomkern.images.readers.resolution import mpp_from_table
from zoomkern.images.readers.slides import SlideReader, slide_vendor
from zoomkern.images.readers.tiff import TiffReader
from zoomkern.images.readers.tiff_directories import MAGIC as MAGIC_OF_TIFF
from zoomkern.images.readers.zarrs import ZarrReader, is_zarr

#: Endings of the files and folders that count as images where a folder holds other things, too.
SUFFIXES = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi"),
    *(".tif", ".tiff", ".btf", ".zarr", ".zoomkern", ".npy", ".png", ".jpg", ".jpeg", ".bmp", ".webp"),
)
#: Those of them that are folders.
FOLDER_SUFFIXES = (".zarr",)

#: Bytes of a file that its magic numbers are looked for in.
_HEAD = 256

#: Slides that are no TIFF: their first file is an index, or looks like a picture.
_SLIDE_SUFFIXES = (".mrxs", ".vms", ".vmu", ".svslide", ".czi", ".zvi")

#: What OpenSlide calls a tiled TIFF of no scanner's maker.
_PLAIN_TIFF = ("generic-tiff", None)


def open_image(
    path: str | os.PathLike[str], *, mpp: float | None = None, mpp_table: str | os.PathLike[str] | None = None
) -> Reader:
    """A reader of an image file: slides, TIFF, OME-TIFF, GeoTIFF, Zarr, OME-Zarr, NumPy, PNG, JPEG, BMP and WebP.

    The kind is told by the file's content, whatever its suffix. No pixel is decoded before one is read.

    Args:
        path: The file, or the folder of a Zarr array or group.
        mpp: Microns per pixel of level 0, where the file does not tell or is wrong.
        mpp_table: A CSV file of the columns ``image`` (name or path) and ``mpp``, for images that do not tell; it goes
            before what the file says, ``mpp`` goes before both.

    Raises:
        FileNotFoundError: There is no such file.
        ReadError: The file is damaged, or of no known kind.
        ImportError: A library is not installed; the message names the extra.
        ValueError: ``mpp`` or ``mpp_table`` does not fit.

    Example:
        >>> import tempfile, numpy, zoomkern
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.save(f"{folder}/image.npy", numpy.zeros((480, 640, 3), numpy.uint8))
        ...     zoomkern.open_image(f"{folder}/image.npy").read_region(location=(600, 0), level=0, size=(64, 32)).shape
        (32, 64, 3)
    """
    try:
        file = Path(path).absolute()
    except TypeError:
        raise TypeError(f"path must be a path; got {type(path).__name__}. Pass a str or pathlib.Path.") from None
    head = _head(file)
    if mpp is None and mpp_table is not None:
        mpp = mpp_from_table(mpp_table, file)
    for recognises, reader in READERS:
        if recognises(file, head):
            return reader(file, mpp=mpp)
    kind = "a folder without one" if file.is_dir() else "of no known kind"
    raise ReadError(
        f"path must name an image; got {str(file)!r}, {kind}. "
        "Known are slides, TIFF, Zarr, .npy, PNG, JPEG, BMP and WebP; convert it to one of them."
    )


def _head(file: Path) -> bytes:
    """The first bytes of a file, none of a folder."""
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"path must name an image; got {str(file)!r}, which is not there. Check it.") from None
    if stat.S_ISDIR(mode):
        return b""
    if not stat.S_ISREG(mode):
        raise ReadError(f"path must name a file or folder; got {str(file)!r}, a device or pipe. Copy it to a file.")
    with file.open("rb") as stream:
        return stream.read(_HEAD)


def _is_slide(file: Path, head: bytes) -> bool:
    if head[:4] in MAGIC_OF_TIFF:
        return slide_vendor(file) not in _PLAIN_TIFF
    return bool(head) and (head[128:132] == b"DICM" or file.suffix.lower() in _SLIDE_SUFFIXES)


def _is_picture(file: Path, head: bytes) -> bool:
    return head[:2] == b"BM" or head[:3] == b"\xff\xd8\xff" or head[:8] == b"\x89PNG\r\n\x1a\n" or head[8:12] == b"WEBP"


#: ``recognises(path, first bytes)`` and the reader of what it recognises; the first that does is taken.
READERS: list[tuple[Callable[[Path, bytes], bool], type[Reader]]] = [
    (lambda file, head: is_zarr(file), ZarrReader),
    (lambda file, head: head.startswith(MAGIC), ConvertedReader),
    (lambda file, head: head.startswith(b"\x93NUMPY"), ArrayReader),
    (lambda file, head: head[:4] in MAGIC_OF_TIFF and is_plain_aperio(file), AperioReader),
    (_is_slide, SlideReader),
    (lambda file, head: head[:4] in MAGIC_OF_TIFF, TiffReader),
    (_is_picture, PictureReader),
]

"""Image sets on disk: where their files are, how large the pictures are, and what to say where something is missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from zoomkern import checks
from zoomkern.data.dataset import ImageSet
from zoomkern.images import PinnedImage, Pyramid
from zoomkern.images.decode import _LIMIT_LOCK
from zoomkern.images.pinned import MAX_PIXELS
from zoomkern.images.readers import Reader
from zoomkern.images.readers.opening import FOLDER_SUFFIXES, open_image
from zoomkern.images.readers.opening import SUFFIXES as READABLE

#: Endings of the files that count as images where a folder holds other files too.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
#: The same where images are stored; a DICOM slide is many files.
STORED_SUFFIXES = tuple(suffix for suffix in READABLE if suffix != ".dcm")

_EXIF_ORIENTATION, _ON_ITS_SIDE = 274, (5, 6, 7, 8)
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


class FileImages(ImageSet):
    """Images of which each is one file.

    Args:
        classes: name of every class.
        names: name of every image, unique.
        labels: class of every image.
        paths: file of every image.
        groups: as :class:`~zoomkern.data.dataset.ImageSet` has them.
        max_pixels: larger images are refused before they are decoded.
        stored: leave the pixels in the files, of any kind that :func:`zoomkern.open_image` reads, and read the patches
            that are drawn; else Pillow decodes them into memory.
    """

    def __init__(
        self,
        classes: list[str],
        names: list[str],
        labels: list[int],
        paths: Sequence[Path],
        groups: list[str] | None = None,
        max_pixels: int = MAX_PIXELS,
        stored: bool = False,
    ) -> None:
        super().__init__(classes, names, labels, groups)
        self._stored = stored
        self._paths = list(paths)
        self._max_pixels = checks.integer("max_pixels", max_pixels, 1, 1 << 62)

    def image(self, index: int) -> PinnedImage | Pyramid:
        """The decoded image, or the levels of one that is stored.

        Raises:
            OSError: the file is missing, damaged, no image or larger than ``max_pixels``; the message names it.
            ImportError: what reads such a file is not installed.
        """
        if self._stored:
            return Pyramid.open(self.reader(index), where="disk")
        try:
            return PinnedImage.from_file(self._paths[index], self._max_pixels)
        except ValueError as error:
            raise OSError(str(error)) from error

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` in pixels, from the file's header."""
        if not self._stored:
            return picture_size(self._paths[index])
        width, height = self.reader(index).dimensions
        return height, width

    def source(self, index: int) -> str:
        """The image's file, its path written in the one way that leads over no link."""
        return os.path.realpath(self._paths[index])

    def reader(self, index: int) -> Reader:
        """Of the image's file.

        Raises:
            OSError: the file is missing, damaged or no image; the message names it.
            ImportError: what reads such a file is not installed.
        """
        return open_image(self._paths[index])


def picture_size(path: Path) -> tuple[int, int]:
    """``(H, W)`` of the upright image, from the file's header alone.

    Raises:
        ImportError: Pillow is not installed.
        OSError: the file is missing or no image; the message names it.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise ImportError("Reading image files needs Pillow: pip install 'zoomkern[data]'") from error
    require_file(path)
    try:
        with _LIMIT_LOCK:  # Pillow's limit of pixels is one for the whole process; nothing is decoded here
            limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
            try:
                picture = PIL.Image.open(path)
            finally:
                PIL.Image.MAX_IMAGE_PIXELS = limit
        with picture:
            exif = PIL.Image.Image.getexif(picture)  # a PNG's own would decode the image
            tags = getattr(picture, "tag_v2", None)  # of a TIFF, whose size some versions of Pillow turn themselves
            width, height = picture.size if tags is None else (tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT])
            return (width, height) if exif.get(_EXIF_ORIENTATION) in _ON_ITS_SIDE else (height, width)
    except MemoryError:
        raise
    except Exception as error:  # whatever a format's parser meets
        raise OSError(f"{str(path)!r} is damaged or no image: {error}. Fetch or export it again.") from error


def require_folder(path: str | os.PathLike[str], holds: str) -> Path:
    """``path``, which must be a folder.

    Raises:
        TypeError: ``path`` is no path.
        FileNotFoundError: there is no such folder; the message says what it should hold.
    """
    try:
        folder = Path(os.path.expandvars(os.path.expanduser(path)))
    except TypeError:
        raise TypeError(f"root must be a path; got {type(path).__name__}. Pass a str or pathlib.Path.") from None
    if not folder.is_dir():
        unset = [part[1:] for part in folder.parts if part.startswith("$")]
        cure = f"Set {unset[0]}, which is not set" if unset else "Check root"
        raise FileNotFoundError(f"{str(folder)!r} is no folder; it should hold {holds}. {cure}.")
    return folder


def require_file(path: Path, named_by: str = "") -> Path:
    """``path``, which must be a file; ``named_by`` says what spoke of it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        source = f", which {named_by} names" if named_by else ""
        raise FileNotFoundError(f"there is no file {str(path)!r}{source}. Correct the path, or fetch the file again.")
    return path


def require_inside(root: Path, path: Path, named_by: str, follow_links: bool = False) -> Path:
    """``path``, which must lie below ``root`` after ``..`` and links are resolved.

    Args:
        root: the folder.
        path: joined to ``root`` already.
        named_by: what named the path, for the message.
        follow_links: links may lead out of ``root``; only what the path itself says counts.

    Raises:
        ValueError: the path leaves the folder.
    """
    resolve = os.path.abspath if follow_links else os.path.realpath
    if not Path(resolve(path)).is_relative_to(resolve(root)):
        raise ValueError(
            f"{named_by} names {str(path)!r}, which leads out of {str(root)!r}. Move the file there or mend the name."
        )
    return path


def pictures_below(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Every image file below ``folder``, by name; hidden ones are left out, links are followed, loops cut."""
    found: list[Path] = []
    visited = set()
    pending = [folder]
    while pending:
        here = pending.pop()
        real = os.path.realpath(here)
        if real in visited:  # a link to a folder that has been seen, its own parent perhaps
            continue
        visited.add(real)
        for entry in sorted(here.iterdir()):
            if entry.name.startswith("."):
                continue
            suffix = entry.suffix.lower()
            if entry.is_dir() and not (suffix in FOLDER_SUFFIXES and suffix in suffixes):
                pending.append(entry)
            elif suffix in FOLDER_SUFFIXES and entry.is_dir():
                found.append(entry)
            elif suffix in suffixes:
                found.append(require_file(entry, f"a link in {str(here)!r}"))
    return sorted(found)


def read_xml(path: Path) -> Element:
    """The root element of an XML file without a document type, hence without entities of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no XML, or declares a document type.
    """

    def refuse(*declaration: object) -> None:
        raise ValueError(f"{str(path)!r} declares a document type, which may expand without end. Remove it.")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(require_file(path).read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(f"{str(path)!r} is no XML or truncated: {error}. Fetch it again.") from error
    return builder.close()

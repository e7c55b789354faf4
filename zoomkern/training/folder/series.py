"""DICOM files of one slide, which are one image: the files of a series in one folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".dcm"
#: ImageType, whose third word says what is seen, and SeriesInstanceUID.
_TYPE, _SERIES = 0x0008_0008, 0x0020_000E
#: What is seen on files that are no slide, where they have a series of their own.
_BESIDE = ("LABEL", "OVERVIEW", "THUMBNAIL")


def whole_series(paths: Iterable[Path]) -> list[list[Path]]:
    """The files of each image: those of a DICOM series in one folder, in the order of their names, or one alone.

    Nothing is read of a ``.dcm`` file that has none beside it. One that is damaged, or names no series, is alone. A
    series of labels and overviews alone is left out.

    Args:
        paths: of images, each once.

    Raises:
        ImportError: DICOM files lie in one folder, and what reads their series is not installed.
    """
    alone: list[list[Path]] = []
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() == SUFFIX:
            folders.setdefault(path.parent, []).append(path)
        else:
            alone.append([path])
    series: dict[tuple[Path, str], list[Path]] = {}
    slides = set()
    for folder, files in folders.items():
        for file in sorted(files):
            name, seen = _series_of(file) if len(files) > 1 and file.is_file() else ("", "")
            if not name:
                alone.append([file])
                continue
            series.setdefault((folder, name), []).append(file)
            if seen not in _BESIDE:
                slides.add((folder, name))
    return alone + [found for key, found in series.items() if key in slides]


def _series_of(file: Path) -> tuple[str, str]:
    """SeriesInstanceUID of a DICOM file, of which no more is read, and what is seen; empty where neither is told."""
    try:
        from pydicom.filereader import read_partial
    except ImportError as error:
        raise ImportError(
            f"which of the DICOM files in {str(file.parent)!r} are one slide is read with pydicom: pip install "
            "'zoomkern[slides]'. Or name one file of each slide in a list, --images slides.txt."
        ) from error
    try:
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = read_partial(stream, lambda tag, *_: tag > _SERIES, specific_tags=[_TYPE, _SERIES])
            words = [str(word) for word in header[_TYPE].value] if _TYPE in header else []
            return str(header[_SERIES].value), words[2] if len(words) > 2 else ""
    except Exception:  # whatever a damaged file makes of the parser; the image itself will fail by its name
        return "", ""

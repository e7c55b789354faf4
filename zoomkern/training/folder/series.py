"""DICOM files of one slide, which are one image: the files of a series in one folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".dcm"
#: SeriesInstanceUID.
_SERIES = 0x0020_000E


def whole_series(paths: Iterable[Path]) -> list[list[Path]]:
    """The files of each image: those of a DICOM series in one folder, in the order of their names, or one alone.

    Nothing is read of a ``.dcm`` file that has none beside it. One that is damaged, or names no series, is alone.

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
    for folder, files in folders.items():
        for file in sorted(files):
            name = _series_of(file) if len(files) > 1 else None
            if name is None:
                alone.append([file])
            else:
                series.setdefault((folder, name), []).append(file)
    return alone + list(series.values())


def _series_of(file: Path) -> str | None:
    """The SeriesInstanceUID of a DICOM file, of which no more is read; None where there is none."""
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
            header = read_partial(stream, lambda tag, *_: tag > _SERIES, specific_tags=[_SERIES])
            return str(header[_SERIES].value) or None
    except Exception:  # whatever a damaged file makes of the parser; the image itself will fail by its name
        return None

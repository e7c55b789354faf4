"""Which images there are to predict."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoomkern.images.files import size_and_time
from zoomkern.images.readers.opening import FOLDER_SUFFIXES, SUFFIXES
from zoomkern.training.folder.series import whole_series

#: Files that list images, a path in each line.
LISTS = (".txt", ".lst")


class Found(NamedTuple):
    """An image as the file system knows it.

    Args:
        name: unique; what results are called by.
        path: absolute; of a DICOM series that of its first file.
        nbytes: size of the file, or of all files that belong to it; 0 where it is not there.
        modified: when it was last written, in nanoseconds; 0 where it is not there.
    """

    name: str
    path: Path
    nbytes: int
    modified: int


def find_images(given: Sequence[str | os.PathLike[str]], without: Path | None = None) -> list[Found]:
    """The images that are meant, in the order of their names.

    Args:
        given: image files, folders (searched whole, through links), and ``.txt`` files with a path in each line. Of one
            folder, names are paths below it; else they are paths as they are written. The ``.dcm`` files of a series
            that lie in one place of a folder are one image, called by the first of their names.
        without: a folder that is not searched, where results lie among the images.

    Raises:
        FileNotFoundError: what is given is not there. A file that a list names may be missing: that is its own error.
        ValueError: there is no image.
        ImportError: what tells DICOM series apart is not installed.
    """
    paths: dict[str, list[Path]] = {}
    for words in map(Path, given):
        if not words.exists():
            raise FileNotFoundError(f"--images must name files or folders; there is no {str(words)!r}.")
        if words.is_dir() and words.suffix.lower() not in FOLDER_SUFFIXES:
            prefix = "" if len(given) == 1 else f"{words}/"
            below = whole_series(_images_below(words, without))
            paths |= {f"{prefix}{files[0].relative_to(words)}": files for files in below}
        elif words.suffix.lower() in LISTS:
            lines = (line.strip() for line in words.read_text().splitlines())
            paths |= {line: [Path(line)] for line in lines if line and not line.startswith("#")}
        else:
            paths[str(words)] = [words]
    if not paths:
        where = ", ".join(repr(str(words)) for words in given)
        raise ValueError(f"--images must hold images; {where} has none. Their names end in {' '.join(SUFFIXES)}.")
    return [_found(name, files) for name, files in sorted(paths.items())]


def _images_below(folder: Path, without: Path | None) -> Iterator[Path]:
    seen = set()
    if without is not None and without.exists():
        seen.add((without.stat().st_dev, without.stat().st_ino))
    for where, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:  # a link leads back, or these are results
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        whole = [name for name in folders if name.lower().endswith(FOLDER_SUFFIXES)]
        folders[:] = sorted(name for name in folders if name not in whole and not name.startswith("."))
        for name in [*whole, *files]:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(where, name)


def _found(name: str, files: Sequence[Path]) -> Found:
    sizes, times = zip(*map(size_and_time, files), strict=True)
    return Found(name, files[0].absolute(), sum(sizes), max(times))

"""Camelyon16: does a slide of a lymph node show a metastasis?"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from torch import Tensor

from zoomkern import checks
from zoomkern.data.files import STORED_SUFFIXES, FileImages, require_file, require_folder
from zoomkern.data.outlines import Outline, area_boxes, bounding_boxes, read_outlines

_CLASSES = ("normal", "tumor")
_ANNOTATIONS = ("annotations", "training/lesion_annotations", "testing/lesion_annotations")

#: Withdrawn from the set as a copy of another slide; the table of labels may still have it.
_WITHDRAWN = {"test_049"}


class Camelyon16(FileImages):
    """Slides of lymph nodes with and without metastases of breast cancer: 270 for training, 130 for test.

    ::

        root/
            training/normal/normal_001.tif ...
            training/tumor/tumor_001.tif ...
            testing/images/test_001.tif ...
            testing/reference.csv               test_001,Tumor,IDC,Macro
            annotations/tumor_001.xml ...       or lesion_annotations/ in training/ and testing/, as unpacked there

    The slides are pyramids of compressed tiles, some ten gigapixels each: they stay in their files, from which patches
    are read that are drawn. Copies by ``zoomkern convert``, or a level that was exported (see ``downsample``), may take
    their places under the slides' names.

    ``objects`` are boxes around the lesions that were drawn; :meth:`polygons` has their outlines. Without any folder of
    annotations they are empty.

    Args:
        root: folder that holds ``training`` and ``testing``.
        split: "train" or "test".
        downsample: how much smaller than the slides the files are, whose coordinates are divided by it; 1 for slides.

    Raises:
        FileNotFoundError: a folder or the table of test labels is missing.
        ValueError: ``split`` is unknown, or slides and labels disagree.

    Source:
        Ehteshami Bejnordi et al., JAMA 318(22), 2017; CC0.

    Example:
        >>> slides = Camelyon16("CAMELYON16", "train")
        >>> slides.names[0], slides.classes[slides.labels[0]]
        ('normal_001', 'normal')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        downsample: float = 1.0,
    ) -> None:
        checks.choice("split", split, ("train", "test"))
        self._downsample = checks.number("downsample", downsample)
        folder = require_folder(root, "training and testing of Camelyon16")
        if split == "train":
            parts = [_slides(folder / "training" / name) for name in _CLASSES]
            paths = [path for part in parts for path in part]
            labels = [label for label, part in enumerate(parts) for _ in part]
        else:
            paths = _slides(folder / "testing" / "images")
            labels = _test_labels(folder / "testing" / "reference.csv", [path.stem for path in paths])
        self._annotations = [folder / name for name in _ANNOTATIONS if (folder / name).is_dir()]
        super().__init__(list(_CLASSES), [path.stem for path in paths], labels, paths, stored=True)

    @property
    def is_annotated(self) -> bool:
        """Whether there are annotations at all."""
        return bool(self._annotations)

    def polygons(self, index: int) -> list[Outline]:
        """Outlines of a slide's lesions and of the holes in them; none for a normal slide.

        Raises:
            FileNotFoundError: there are annotations, but none of this slide.
            ValueError: the slide's annotations are damaged.
        """
        if not self.labels[index] or not self.is_annotated:
            return []
        name = f"{self.names[index]}.xml"
        found = next((folder / name for folder in self._annotations if (folder / name).is_file()), None)
        outlines = read_outlines(found or require_file(self._annotations[0] / name))
        return [outline._replace(points=outline.points / self._downsample) for outline in outlines]

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64: boxes around the outlines of the lesions."""
        return bounding_boxes([outline for outline in self.polygons(index) if not outline.is_hole])

    def areas(self, index: int) -> Tensor:
        """``[K, 4]`` float64: boxes that cover the lesions less their holes, strip by strip."""
        return area_boxes(self.polygons(index))


def _slides(folder: Path) -> list[Path]:
    """The slides in a folder, by name."""
    found = require_folder(folder, "slides").iterdir()
    slides = sorted(path for path in found if path.suffix.lower() in STORED_SUFFIXES and path.name[0] != ".")
    if not slides:
        raise ValueError(f"{str(folder)!r} holds no slide. Unpack or fetch the set again.")
    return slides


def _test_labels(path: Path, names: list[str]) -> list[int]:
    """Class of every test slide, from the set's table."""
    with require_file(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = [[field.strip() for field in row] for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{str(path)!r} is no table in UTF-8: {error}. Fetch it again.") from error
    labels: dict[str, int] = {}
    for number, row in enumerate(rows):
        kind = row[1].lower() if len(row) > 1 else ""
        if kind in _CLASSES:
            labels[row[0].removesuffix(".tif")] = _CLASSES.index(kind)
        elif number:  # the first row may be a heading
            raise ValueError(
                f"{str(path)!r} must have 'slide,Normal' or 'slide,Tumor' in each row; got {row}. Mend it."
            )
    for name in names:
        if name not in labels:
            raise ValueError(f"{str(path)!r} has no row of the slide {name!r}. Fetch it again.")
    missing = sorted(labels.keys() - set(names) - _WITHDRAWN)
    if missing:
        raise ValueError(f"{str(path)!r} names {missing[0]!r}, of which there is no slide. Fetch the slide.")
    return [labels[name] for name in names]

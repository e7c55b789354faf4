"""Swedish traffic signs: which speed limit does a road scene show, or is there a sign at all?"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.data.files import FileImages, pictures_below, require_file, require_folder, require_inside

_LIMITS = ("50_SIGN", "70_SIGN", "80_SIGN")
_SETS = {"train": "Set1", "test": "Set2"}
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")


class Sign(NamedTuple):
    """One sign of a scene.

    Args:
        visibility: ``VISIBLE``, ``BLURRED``, ``OCCLUDED`` or ``SIDE_ROAD``.
        box: x0, y0, x1, y1 in pixels.
        kind: ``PROHIBITORY``, ``INFORMATION``, ...
        name: ``50_SIGN``, ``PEDESTRIAN_CROSSING``, ...
    """

    visibility: str
    box: tuple[float, float, float, float]
    kind: str
    name: str


class TrafficSigns(FileImages):
    """Speed limits in road scenes of 1280 x 960 pixels: none, 50, 70 or 80.

    The speed limit task made of the Swedish Traffic Signs set:

    - of a scene that shows speed limits of 50, 70 or 80, the largest ``VISIBLE`` one is the label;
    - a scene whose speed limits are all blurred, occluded or on a side road is left out;
    - so is a scene that shows other signs alone;
    - a scene without signs, or with ``MISC_SIGNS`` (which the set does not describe) alone, is empty.

    Set 1 is for training and set 2 for test, with 747 and 684 scenes in the published protocol. Frames of one drive
    follow each other by parts of a second: the drive, the number before ``Image`` in a name, is the group.

    ::

        root/
            Set1/  or  Set1Part0/           training
                annotations.txt             NAME:VISIBLE, x1, y1, x0, y0, PROHIBITORY, 50_SIGN;MISC_SIGNS;
                1277104195Image000013.jpg   here or in Set1Part0/ below
            Set2/  or  Set2Part0/           test

    ``objects`` are the visible signs of the scene's limit; :meth:`signs` tells of all.

    Args:
        root: folder of both sets.
        split: "train" or "test".

    Raises:
        FileNotFoundError: a folder, ``annotations.txt`` or an image it names is missing.
        ValueError: ``split`` is unknown, or a line of the annotations is not as above.

    Source:
        Larsson & Felsberg, SCIA 2011; Linköping University, for research. The task: Katharopoulos & Fleuret,
        ICML 2019.

    Example:
        >>> TrafficSigns("traffic-signs", "test").classes
        ['EMPTY', '50_SIGN', '70_SIGN', '80_SIGN']
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        checks.choice("split", split, tuple(_SETS))
        folder, annotations = _annotations(require_folder(root, "Set1 and Set2 of the traffic signs"), _SETS[split])
        classes = ["EMPTY", *_LIMITS]
        names, labels, paths = [], [], []
        self._signs: list[list[Sign]] = []
        for number, line in enumerate(_lines(annotations), 1):
            if not line.strip():
                continue
            where = f"line {number} of {str(annotations)!r}"
            name, signs = _parse(line, where)
            label = _limit(signs)
            if label is None:
                continue
            names.append(name)
            labels.append(classes.index(label))
            paths.append(_scene(folder, name, _SETS[split], where))
            self._signs.append(signs)
        super().__init__(classes, names, labels, paths, [_drive(name) for name in names])

    def signs(self, index: int) -> list[Sign]:
        """All signs of a scene, as the set tells of them."""
        return list(self._signs[index])

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64: the visible signs of the scene's limit; none in an empty scene."""
        limit = self.classes[self.labels[index]]
        boxes = [sign.box for sign in self._signs[index] if sign.visibility == "VISIBLE" and sign.name == limit]
        return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


class TrafficScenes(FileImages):
    """Road scenes with and without a sign, from two folders; where the sign is, they do not tell.

    Frames of one drive share the number before ``Image`` in their names, which is the group; another name is a group
    of its own. There is no official division: make folds, which keep drives whole.

    ::

        root/
            negative/1277104832Image000031.jpg ...
            positive/1277104195Image000048.jpg ...

    Args:
        root: folder of both.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a folder is empty, or a scene is in both.

    Source:
        Scenes of the Swedish Traffic Signs set: Larsson & Felsberg, SCIA 2011; Linköping University, for research.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folder = require_folder(root, "the folders positive and negative")
        names, labels, paths = [], [], []
        for label, part in enumerate(("negative", "positive")):
            found = pictures_below(require_folder(folder / part, "road scenes"))
            if not found:
                raise ValueError(f"{str(folder / part)!r} holds no image. Unpack the set again.")
            names += [path.name for path in found]
            labels += [label] * len(found)
            paths += found
        super().__init__(["no sign", "sign"], names, labels, paths, [_drive(name) for name in names])


def _drive(name: str) -> str:
    """The drive that a frame is of."""
    match = re.match(r"\d+(?=Image\d)", name)
    return match[0] if match else name


def _annotations(root: Path, part: str) -> tuple[Path, Path]:
    """Folder and annotations of ``Set1`` or ``Set2``."""
    for folder in (root / part, root / f"{part}Part0"):
        if (folder / "annotations.txt").is_file():
            return folder, folder / "annotations.txt"
    raise FileNotFoundError(
        f"{str(root)!r} holds neither {part}/annotations.txt nor {part}Part0/annotations.txt. Put the file there."
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text: {error}. Fetch it again.") from error


def _scene(folder: Path, name: str, part: str, named_by: str) -> Path:
    """The image of a line, beside the annotations or in the folder that its archive makes."""
    beside = require_inside(folder, folder / name, named_by)
    within = folder / f"{part}Part0" / name
    return within if within.is_file() else require_file(beside, named_by)


def _parse(line: str, where: str) -> tuple[str, list[Sign]]:
    """Name and signs of one line; MISC_SIGNS, which have no box, are left out."""
    name, colon, rest = line.strip().partition(":")
    if not colon or not name:
        raise ValueError(f"{where} must be 'image:signs'; got {line!r}. Fetch the file again.")
    signs = []
    for text in filter(None, (part.strip() for part in rest.split(";"))):
        fields = [field.strip() for field in text.split(",")]
        if fields[0] == "MISC_SIGNS":
            continue
        # the set's own files have numbers with a stray character behind them
        corners = [_NUMBER.match(field) for field in fields[1:5]]
        if len(fields) < 7 or not all(corners):
            raise ValueError(f"{where} must have 'VISIBILITY, x1, y1, x0, y0, KIND, NAME' per sign; got {text!r}.")
        x1, y1, x0, y0 = (float(corner[0]) for corner in corners if corner)
        signs.append(Sign(fields[0], (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fields[5], fields[6]))
    return name, signs


def _limit(signs: list[Sign]) -> str | None:
    """The class of a scene; None where the task leaves it out."""
    if not signs:
        return "EMPTY"
    visible = [sign for sign in signs if sign.name in _LIMITS and sign.visibility == "VISIBLE"]
    return max(visible, key=_area).name if visible else None


def _area(sign: Sign) -> float:
    x0, y0, x1, y1 = sign.box
    return (x1 - x0) * (y1 - y0)

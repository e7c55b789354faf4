"""Functional Map of the World: what is a place in a satellite image used for?"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.data.files import FileImages, require_file, require_folder
from zoomkern.images.pinned import MAX_PIXELS

_SPLITS = ("train", "val", "test", "seq")
_ENDING = "_rgb.jpg"


class FMoW(FileImages):
    """Satellite images of places with a purpose, 62 kinds of them, from a few hundred to 16,000 pixels wide.

    The set's RGB version; its pictures made of multispectral bands (``_msrgb``) are left out. Images of one place at
    several times share a folder, which is the group; each split counts its places from 0. ``test`` and ``seq`` are for
    a set whose test images were sorted into such folders by the mapping that came with their ground truth.

    ::

        root/
            train/
                airport/airport_0/airport_0_0_rgb.jpg
                airport/airport_0/airport_0_0_rgb.json      {"bounding_boxes": [{"category": ..., "box": [x, y, w, h]}]}
                airport/airport_0/airport_0_1_rgb.jpg ...
            val/ ...

    ``objects`` are the boxes of the image's own class.

    Args:
        root: folder of the splits.
        split: "train", "val", "test" or "seq".
        classes: the classes to take, in this order; None takes all that the split has, by name. The Zoom-In network
            was tried on ten of them, 15,000 images for training and 9,571 for test.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        FileNotFoundError: a folder, or the description of an image, is missing.
        ValueError: ``split`` is unknown, a class has no image, or (from ``objects``) a description is damaged or of
            another class.

    Source:
        Christie, Fendley, Wilson & Mukherjee, CVPR 2018; Functional Map of the World Challenge Public License.

    Example:
        >>> FMoW("fmow-rgb", "val", classes=["airport", "zoo"]).classes
        ['airport', 'zoo']
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        checks.choice("split", split, _SPLITS)
        folder = require_folder(require_folder(root, "the splits of fMoW") / split, "one folder per class")
        order = _folders(folder) if classes is None else list(classes)
        labels: list[int] = []
        paths: list[Path] = []
        for label, name in enumerate(order):
            found = _images(require_folder(folder / name, f"places of the class {name!r}"))
            labels += [label] * len(found)
            paths += found
        if not paths:
            raise ValueError(f"{str(folder)!r} holds no class. Check root and split.")
        names = [path.name.removesuffix(_ENDING) for path in paths]
        groups = [f"{split}/{path.parent.name}" for path in paths]
        super().__init__(order, names, labels, paths, groups, max_pixels)

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64: the boxes that have the image's class.

        Raises:
            ValueError: the image's description is damaged or has no box of the class.
        """
        path = self._paths[index].with_suffix(".json")
        kind = self.classes[self.labels[index]]
        boxes = [box["box"] for box in _boxes(path) if box.get("category") == kind]
        if not boxes:
            raise ValueError(f"{str(path)!r} has no box of {kind!r}, whose folder it is in. Fetch it again.")
        for box in boxes:
            numbers = len(box) == 4 and all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)
            if not numbers or min(box[2:]) < 0:
                raise ValueError(f"{str(path)!r} must have boxes [x, y, width, height]; got {box}. Fetch it again.")
        x, y, width, height = torch.tensor(boxes, dtype=torch.float64).unbind(1)
        return torch.stack([x, y, x + width, y + height], dim=1)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _images(folder: Path) -> list[Path]:
    """Images of a class, place by place in their order, each with its description beside it."""
    found = []
    for place in sorted(_folders(folder), key=_natural):
        files = {entry.name for entry in (folder / place).iterdir()}
        for name in sorted((name for name in files if name.endswith(_ENDING)), key=_natural):
            found.append(folder / place / name)
            description = found[-1].with_suffix(".json")
            if description.name not in files:
                raise FileNotFoundError(f"{str(found[-1])!r} lacks its description {description.name}. Fetch it again.")
    if not found:
        raise ValueError(f"{str(folder)!r} holds no image that ends in {_ENDING}. Remove it or fetch its images.")
    return found


def _natural(name: str) -> tuple[int, str]:
    """So that ``airport_2`` comes before ``airport_10``."""
    return len(name), name


def _boxes(path: Path) -> list[dict[str, Any]]:
    """The boxes of a description."""
    try:
        boxes = json.loads(require_file(path).read_bytes())["bounding_boxes"]
        boxes = [boxes] if isinstance(boxes, dict) else boxes  # some have one box without a list around it
        return [dict(box, box=list(box["box"])) for box in boxes]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no description with bounding_boxes: {error!r}. Fetch it again.") from error

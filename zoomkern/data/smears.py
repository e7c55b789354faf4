"""Blood smears with boxes (BCCD): real fields of red cells, and real white cells, in one common stain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoomkern.data.files import read_xml, require_file, require_folder, require_inside
from zoomkern.images.decode import open_picture

#: Splits of BCCD, and their shares where the set comes without its lists.
SPLITS = {"train": 0.56, "val": 0.24, "test": 0.20}
#: Side of a square field in pixels.
FIELD = 256
#: Pixels around a white cell's box that are cut out with it.
MARGIN = 16

_LEAST_CELL, _MOST_CELL = 96, FIELD - 2 * MARGIN
_MAX_PIXELS = 1 << 24
_STRIDE = 16  # of the places where a field may begin
_FIELDS_PER_IMAGE = 2
_LEAST_RED = 2  # red cells in a field
_MOST_PURPLE = 700  # pixels in a field: a few platelets, but no part of a white cell that nobody boxed
_PLASMA = np.array([210.0, 205.0, 200.0])  # the common stain, in red, green and blue
_STD = np.array([22.0, 30.0, 24.0])

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.int64]


class Smears(NamedTuple):
    """What the smears of a split are made of.

    Args:
        fields: ``[F, 256, 256, 3]`` uint8, with red cells, without a white one, in the common stain.
        cells: one ``[h, w, 3]`` uint8 for each white cell, its box and 16 pixels more on every side, in that stain.
        stains: ``[M, 2, 3]``, how to get from the common stain to that of each image: a gain and an offset.
    """

    fields: Pixels
    cells: list[Pixels]
    stains: NDArray[np.float64]


def load_smears(root: str | os.PathLike[str], split: str) -> Smears:
    """The fields and white cells of a split.

    A stain is the 90th percentile (the plasma between cells, where a seam shows most) and the standard deviation of
    each colour over the boxes of an image's red cells; unlike those of the whole image, these do not depend on how
    crowded it is. Some images show white cells that have no box; fields
    are therefore checked by colour too. White cells that touch the edge of their image or another white cell, and
    those whose box is smaller than 96 or larger than 224 pixels, are left out.

    Args:
        root: the folder with BCCD's ``Annotations`` and ``JPEGImages``, or the one that holds it as ``BCCD``. The split
            is that of ``ImageSets/Main``; where it is missing, a fixed random one of 56, 24 and 20 % of the images.
        split: "train", "val" or "test".

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: an annotation is damaged, or the split has no field or no white cell.
        OSError: an image is damaged.
    """
    folder = require_folder(root, "BCCD, with Annotations and JPEGImages")
    folder = folder / "BCCD" if (folder / "BCCD").is_dir() else folder
    fields: list[Pixels] = []
    cells: list[Pixels] = []
    stains = []
    for name in _names(folder, split):
        picture = _pixels(require_inside(folder, folder / "JPEGImages" / f"{name}.jpg", f"the list of {split}"))
        red, white = _boxes(folder / "Annotations" / f"{name}.xml", picture.shape[:2])
        if not len(red):
            continue
        inside = np.concatenate([picture[y0:y1, x0:x1].reshape(-1, 3) for x0, y0, x1, y1 in red.tolist()])
        plasma, gain = np.percentile(inside, 90, 0), np.maximum(inside.std(0), 1) / _STD
        stains.append((gain, plasma - gain * _PLASMA))
        picture = stained(picture, 1 / gain, _PLASMA - plasma / gain)
        fields += _fields(picture, red, white)
        cells += _cells(picture, white)
    if not fields or not cells:
        what = "a white cell" if fields else f"a field of {FIELD} x {FIELD} pixels with red cells only"
        raise ValueError(f"{str(folder)!r}: the images of {split} must show {what}; none does. Fetch the set again.")
    return Smears(np.stack(fields), cells, np.array(stains))


def stained(picture: Pixels, gain: NDArray[np.float64], offset: NDArray[np.float64]) -> Pixels:
    """``picture * gain + offset`` for each colour, ``[H, W, 3]``, rounded and kept within 8 bits."""
    table = np.clip(np.rint(np.arange(256)[:, None] * gain + offset), 0, 255).astype(np.uint8)
    result = np.empty_like(picture)
    for colour in range(3):
        result[..., colour] = table[picture[..., colour], colour]
    return result


def _names(folder: Path, split: str) -> list[str]:
    lists = folder / "ImageSets" / "Main"
    if lists.is_dir():
        return require_file(lists / f"{split}.txt").read_text().split()
    names = sorted(path.stem for path in require_folder(folder / "Annotations", "BCCD's boxes").glob("*.xml"))
    ends = np.rint(np.cumsum([0, *SPLITS.values()]) * len(names)).astype(int)
    at = list(SPLITS).index(split)
    return sorted(np.random.default_rng(0).permutation(names)[ends[at] : ends[at + 1]].tolist())


def _pixels(path: Path) -> Pixels:
    try:
        with open_picture(require_file(path), _MAX_PIXELS) as picture:
            return np.array(picture.convert("RGB"))
    except ValueError as error:
        raise OSError(str(error)) from error


def _boxes(path: Path, size: tuple[int, ...]) -> tuple[Boxes, Boxes]:
    """Boxes ``[K, 4]`` xyxy of red cells and of white cells, cut at the image's edge; empty ones are dropped."""
    found: dict[str, list[list[int]]] = {"RBC": [], "WBC": []}
    height, width = size
    for number, entry in enumerate(read_xml(path).iter("object")):
        kind = entry.findtext("name", "")
        try:
            corners = [int(entry.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise ValueError(
                f"{str(path)!r}: object {number} ({kind or 'without a name'}) must have a bndbox of four integers. "
                "Fetch it again."
            ) from None
        box = np.clip(corners, 0, (width, height, width, height)).tolist()
        if kind in found and box[2] > box[0] and box[3] > box[1]:
            found[kind].append(box)
    red, white = (np.array(boxes, np.int64).reshape(-1, 4) for boxes in found.values())
    return red, white


def _fields(picture: Pixels, red: Boxes, white: Boxes) -> list[Pixels]:
    """Up to two squares that do not overlap, with red cells and without white ones; the most crowded first."""
    height, width = picture.shape[:2]
    y, x = (axis.ravel() for axis in np.mgrid[: height - FIELD + 1 : _STRIDE, : width - FIELD + 1 : _STRIDE])
    places = np.stack([x, y, x + FIELD, y + FIELD], 1)
    middle = (red[:, :2] + red[:, 2:]) / 2
    held = ((middle > places[:, None, :2]) & (middle < places[:, None, 2:])).all(-1).sum(1)
    purple = (picture[..., 2] > picture[..., 1] + 50.0) & (picture[..., 0] < 170)
    total = np.pad(purple.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    painted = total[y + FIELD, x + FIELD] - total[y, x + FIELD] - total[y + FIELD, x] + total[y, x]
    free = (held >= _LEAST_RED) & (painted <= _MOST_PURPLE)
    taken = np.concatenate([white[:, :2] - MARGIN // 2, white[:, 2:] + MARGIN // 2], 1)
    fields: list[Pixels] = []
    while len(fields) < _FIELDS_PER_IMAGE:
        free &= ~_overlap(places, taken).any(1)
        if not free.any():
            break
        x0, y0, x1, y1 = best = places[np.where(free, held, -1).argmax()]
        fields.append(picture[y0:y1, x0:x1].copy())
        taken = best[None]
    return fields


def _cells(picture: Pixels, white: Boxes) -> list[Pixels]:
    """White cells, each with its margin, that are whole and alone."""
    height, width = picture.shape[:2]
    cells = []
    for number, box in enumerate(white):
        x0, y0, x1, y1 = cut = box + (-MARGIN, -MARGIN, MARGIN, MARGIN)
        sides = box[2:] - box[:2]
        whole = min(x0, y0, width - x1, height - y1) >= 0
        usual = sides.min() >= _LEAST_CELL and sides.max() <= _MOST_CELL
        if whole and usual and not _overlap(cut[None], np.delete(white, number, 0)).any():
            cells.append(picture[y0:y1, x0:x1].copy())  # not a view, which would keep the whole picture
    return cells


def _overlap(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """``[K, 4]`` and ``[M, 4]`` xyxy to ``[K, M]``, whether they share pixels."""
    a, b = boxes[:, None], others[None]
    shared: NDArray[np.bool_] = (a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])
    return shared[..., 0] & shared[..., 1]

"""A real white blood cell on a canvas of real red ones."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomkern import checks
from zoomkern.data.generated import GeneratedSet
from zoomkern.data.quilt import quilt
from zoomkern.data.smears import FIELD, MARGIN, SPLITS, load_smears, stained

#: Least side of a canvas in pixels: wherever a white cell lies, its shards find room on one side of it.
MIN_SIZE = 3 * FIELD

_OVERLAP = 32  # pixels that neighbouring fields share
_TRIES = 100  # to lay a shard beside all others
_SHARP = 1.8  # pixels over which a shard fades: more mixes more colours, less makes more edges than a whole cell has

Pixels = NDArray[np.uint8]
Shares = NDArray[np.float32]


class Needle(NamedTuple):
    """Where something lies whole.

    Args:
        cell: index of the white cell.
        turn: how it is turned, 0 to 7.
        corner: ``(y, x)`` of its top-left corner, margin included.
    """

    cell: int
    turn: int
    corner: tuple[int, int]


class BloodNeedles(GeneratedSet):
    """Is there a whole white cell among thousands of red ones?

    The background is a quilt of real fields that show red cells and no white one, each turned at random, joined where
    they differ least, all in the stain of one of the source images. On it lie one real white cell and one piece of a
    field of the same shape, with soft rims. On a positive canvas the white cell is whole and the piece of field is cut
    into shards that are strewn about; on a negative one the field is whole and the white cell in shards. So every
    canvas holds the same colours in about the same amounts, as many pastes and as many soft rims, and simple statistics
    tell next to nothing: on 400 canvases of 768 and of 1024 pixels, where the needle is largest, logistic regression
    reached an AUC of 0.50 and 0.57 on colour histograms, of 0.54 and 0.60 on means, deviations, purple and edges. With
    ``num_shards=0`` nothing is strewn: an easier question, as the purple of a nucleus gives the answer (AUC 1.0).

    Canvases of a split share fields and cells; splits share neither, as they are made of different images.

    Args:
        root: folder of BCCD, with ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: "train", "val" or "test", as ``ImageSets/Main`` lists them.
        size: ``(H, W)`` of the canvas in pixels, or one int; at least 768. The magnification is that of the set.
        length: number of canvases, one of each class in every pair.
        num_shards: into how many shards the other piece is cut.
        seed: of everything.

    Memory:
        The split's fields (192 KiB each, up to two per source image) and white cells, 50 MB for "train". Making a
        canvas takes up to five times its size, for as long as that lasts.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: an argument is out of range, or an annotation is damaged.
        OSError: an image is damaged.
        ImportError: Pillow is not installed.

    Source:
        BCCD, https://github.com/Shenggan/BCCD_Dataset (MIT): 364 smears of 640 x 480 pixels with boxes. Needles on real
        backgrounds: Kong & Henao, CVPR 2022 (NeedleCamelyon), who hide lesions of 0.1 to 1 % in 1024 x 1024 pixels. The
        shards are ours.

    Example:
        >>> canvases = BloodNeedles("data/bccd/BCCD", "test", size=2048, length=100)
        >>> canvases[0].image.shape, canvases.classes
        (torch.Size([3, 2048, 2048]), ['no white cell', 'a white cell'])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        size: int | tuple[int, int] = 2048,
        length: int = 1000,
        num_shards: int = 6,
        seed: int = 0,
    ) -> None:
        checks.choice("split", split, tuple(SPLITS))
        height, width = checks.pair("size", size)
        canvas = checks.integer("size[0]", height, MIN_SIZE), checks.integer("size[1]", width, MIN_SIZE)
        self.num_shards = checks.integer("num_shards", num_shards, 0, 64)
        super().__init__(["no white cell", "a white cell"], split, tuple(SPLITS), length, canvas, seed, self.coin)
        self._smears = load_smears(root, split)

    @property
    def object_ratio(self) -> float:
        """Area of a white cell's box over that of the canvas, the mean over the split's white cells."""
        areas = [(cell.shape[0] - 2 * MARGIN) * (cell.shape[1] - 2 * MARGIN) for cell in self._smears.cells]
        return sum(areas) / len(areas) / (self.canvas[0] * self.canvas[1])

    def image(self, index: int) -> Tensor:
        """The canvas, ``[3, H, W]`` uint8, in memory a picture of RGB pixels."""
        rng = self.generator(index)
        needle = self._needle(rng)
        cell = _turned(self._smears.cells[needle.cell], needle.turn)
        height, width = cell.shape[:2]
        field = self._field(rng)[:height, :width]
        whole, broken = (cell, field) if self.labels[index] else (field, cell)
        canvas = self._background(rng)
        oval = _oval(height, width)
        _paste(canvas, whole, oval, needle.corner)
        taken = [(*needle.corner, height, width)]
        for share in _shards(rng, oval, self.num_shards):
            rows, columns = np.flatnonzero(share.max(1) > 0), np.flatnonzero(share.max(0) > 0)
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            turn = int(rng.integers(8))
            shard, soft = _turned(broken[part], turn), _turned(share[part], turn)
            corner = _free_corner(rng, soft.shape, self.canvas, taken)
            _paste(canvas, shard, soft, corner)
            taken.append((*corner, *soft.shape))
        gain, offset = self._smears.stains[rng.integers(len(self._smears.stains))]
        return torch.from_numpy(stained(canvas, gain, offset)).permute(2, 0, 1)

    def objects(self, index: int) -> Tensor:
        """``[1, 4]`` float64 xyxy, the white cell's box; ``[0, 4]`` where there is none."""
        needle = self._needle(self.generator(index))
        height, width = _turned(self._smears.cells[needle.cell], needle.turn).shape[:2]
        y, x = needle.corner
        box = [[x + MARGIN, y + MARGIN, x + width - MARGIN, y + height - MARGIN]]
        return torch.tensor(box, dtype=torch.float64)[: self.labels[index]]

    def _needle(self, rng: np.random.Generator) -> Needle:
        which, turn = int(rng.integers(len(self._smears.cells))), int(rng.integers(8))
        height, width = _turned(self._smears.cells[which], turn).shape[:2]
        return Needle(which, turn, _corner(rng, (height, width), self.canvas))

    def _field(self, rng: np.random.Generator) -> Pixels:
        """A field, turned, both at random."""
        return _turned(self._smears.fields[rng.integers(len(self._smears.fields))], int(rng.integers(8)))

    def _background(self, rng: np.random.Generator) -> Pixels:
        """``[H, W, 3]`` of fields; one row and one column more than needed leave their grid anywhere."""
        step = FIELD - _OVERLAP
        rows, columns = (-(-(side - _OVERLAP) // step) + 1 for side in self.canvas)
        tiles = np.empty((rows, columns, FIELD, FIELD, 3), np.uint8)
        for tile in tiles.reshape(-1, FIELD, FIELD, 3):
            tile[:] = self._field(rng)
        joined = quilt(tiles, _OVERLAP)
        y, x = rng.integers(step, size=2)
        return joined[y : y + self.canvas[0], x : x + self.canvas[1]]


def _turned(patch: NDArray, turn: int) -> NDArray:
    """One of the eight ways to lay a patch down."""
    return np.rot90(patch[:, ::-1] if turn & 4 else patch, turn & 3)


def _oval(height: int, width: int) -> Shares:
    """``[h, w]``, 1 on the ellipse that a white cell fills, falling to 0 through its margin."""
    y, x = (np.arange(side, dtype=np.float32) - (side - 1) / 2 for side in (height, width))
    inner = np.hypot(y[:, None] / (height / 2 - MARGIN), x / (width / 2 - MARGIN))  # 1 on the box's ellipse
    outer = np.hypot(y[:, None] / (height / 2), x / (width / 2))  # 1 on the patch's
    edge: Shares = np.clip((1 - outer) / np.maximum(inner - outer, 1e-6), 0, 1).astype(np.float32)
    return edge * edge * (3 - 2 * edge)


def _shards(rng: np.random.Generator, oval: Shares, number: int) -> Shares:
    """``[number, h, w]``, irregular parts that add up to ``oval``: the regions nearest to random points of it."""
    if number == 0:
        return oval[None][:0]
    inner = np.argwhere(oval == 1)
    points = inner[rng.choice(len(inner), number, replace=False)]
    y, x = np.ogrid[: oval.shape[0], : oval.shape[1]]
    far = np.stack([np.hypot(y - py, x - px) for py, px in points]).astype(np.float32)
    share = np.exp((far.min(0) - far) / _SHARP)
    share[share < 0.01] = 0  # so that a shard ends somewhere
    share *= oval / share.sum(0)
    return share


def _paste(canvas: Pixels, patch: Pixels, share: Shares, corner: tuple[int, int]) -> None:
    y, x = corner
    spot = canvas[y : y + share.shape[0], x : x + share.shape[1]]
    spot[:] = np.rint(spot + share[..., None] * (patch.astype(np.float32) - spot))


def _corner(rng: np.random.Generator, size: tuple[int, ...], canvas: tuple[int, int]) -> tuple[int, int]:
    """A top-left corner ``(y, x)``, uniform over those that leave a patch of this size inside."""
    return int(rng.integers(canvas[0] - size[0] + 1)), int(rng.integers(canvas[1] - size[1] + 1))


def _free_corner(
    rng: np.random.Generator, size: tuple[int, ...], canvas: tuple[int, int], taken: list[tuple[int, int, int, int]]
) -> tuple[int, int]:
    """A corner whose patch keeps off rectangles (top, left, height, width).

    Where none is found soon, one that keeps off the first of them, which is always possible.
    """
    tries = 0
    while True:
        y, x = _corner(rng, size, canvas)
        clear = [
            y + size[0] <= top or top + height <= y or x + size[1] <= left or left + width <= x
            for top, left, height, width in taken
        ]
        tries += 1
        if all(clear) or (clear[0] and tries > _TRIES):
            return y, x

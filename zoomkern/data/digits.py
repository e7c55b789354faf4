"""Megapixel digits: a few small handwritten digits on a large cluttered canvas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoomkern.data.clutter import paper, scatter, scribble, stroke

#: Side of a view cell in canvas pixels; a digit fills little more than one.
CELL = 32
#: Sides a digit is drawn with, in canvas pixels.
DIGIT_SIDES = (32, 36, 40)
#: Smallest canvas on which the digits surely find room.
MIN_SIZE = 512
NUM_CLASSES = 10

_COPIES, _OTHERS = 3, 2
_SPLITS = ("train", "test")


class Canvas(NamedTuple):
    """One canvas.

    Args:
        image: ``[1, S, S]`` uint8.
        view: ``[1, S / 32, S / 32]`` float32 in [0, 1]; each pixel is the mean of the 32 x 32 pixels it covers.
        label: the digit that occurs three times.
        boxes: ``[5, 4]`` int64 xyxy, where the digits are.
        digits: ``[5]`` int64, what they are, in the order of ``boxes``.
    """

    image: Tensor
    view: Tensor
    label: int
    boxes: Tensor
    digits: Tensor


class CanvasBatch(NamedTuple):
    """Several canvases.

    Args:
        images: ``B`` tensors ``[1, S, S]`` uint8, valid until the next batch is asked for.
        view: ``[B, 1, S / 32, S / 32]`` float32.
        labels: ``[B]`` int64.
        boxes: ``[B, 5, 4]`` int64 xyxy.
        digits: ``[B, 5]`` int64.
    """

    images: list[Tensor]
    view: Tensor
    labels: Tensor
    boxes: Tensor
    digits: Tensor


class DigitCanvases:
    """Which digit occurs three times among five, on a canvas of megapixels?

    Three different digits of the class and two of other classes lie without overlap on dark paper among pen strokes
    and scribbles; digits and clutter merge by the brighter pixel. The digits are scikit-learn's 8 x 8 handwritten
    ones, drawn 32 to 40 pixels large. In the view they are spots of a pixel or two: one sees where something
    is, not what. Training and test share neither digits nor clutter.

    Canvas ``i`` is a function of ``(seed, split, i)`` alone. It lies on background ``i % num_backgrounds``; only the
    backgrounds are kept, so any number of canvases costs ``num_backgrounds`` times ``size * size`` bytes.

    Args:
        split: "train" or "test".
        length: number of canvases.
        size: side ``S`` of the square canvas in pixels, a multiple of 32, at least 512.
        num_backgrounds: different sheets of clutter, and the largest batch.
        seed: of everything.

    Memory:
        ``num_backgrounds * size**2`` bytes; indexing adds a copy of one canvas, :meth:`batches` adds none.

    Source:
        The task is Megapixel MNIST's (Katharopoulos & Fleuret, ICML 2019); a demonstration, not that benchmark. Digits:
        scikit-learn's copy of the UCI set (Alpaydin & Kaynak, 1998, CC BY 4.0).

    Example:
        >>> canvas = DigitCanvases("test", length=100)[3]
        >>> canvas.image.shape, canvas.view.shape
        (torch.Size([1, 2048, 2048]), torch.Size([1, 64, 64]))
    """

    def __init__(
        self, split: str = "train", length: int = 1024, size: int = 2048, num_backgrounds: int = 16, seed: int = 0
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f'DigitCanvases: split must be "train" or "test"; got {split!r}.')
        if size < MIN_SIZE or size % CELL:
            raise ValueError(f"DigitCanvases: size must be a multiple of {CELL}, at least {MIN_SIZE}; got {size}.")
        if length < 0 or num_backgrounds < 1:
            raise ValueError(
                f"DigitCanvases: length must not be negative and num_backgrounds must be positive; "
                f"got {length} and {num_backgrounds}."
            )
        self.split = split
        self.length = length
        self.size = size
        self.num_backgrounds = num_backgrounds
        self._key = (seed, _SPLITS.index(split))
        self._glyphs, self._of_class = _load_glyphs(split)
        rng = np.random.default_rng((*self._key, 0))
        strokes = [stroke(rng, (40, 200), 0.4) for _ in range(48)]
        scribbles = [scribble(rng, 36) for _ in range(48)]
        megapixels = size * size / 2**20
        self._backgrounds = torch.empty(num_backgrounds, 1, size, size, dtype=torch.uint8)
        for background in self._backgrounds.numpy()[:, 0]:
            background[:] = paper(rng, size)
            scatter(rng, background, strokes, round(24 * megapixels))
            scatter(rng, background, scribbles, round(3 * megapixels))
        self._views = torch.stack([_area_view(background) for background in self._backgrounds])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Canvas:
        if not -self.length <= index < self.length:
            raise IndexError(f"DigitCanvases: index {index} is out of range for {self.length} canvases.")
        index %= self.length
        background = index % self.num_backgrounds
        image, view = self._backgrounds[background].clone(), self._views[background].clone()
        label, boxes, digits, _ = self._lay(index, image, view)
        return Canvas(image, view, label, boxes, digits)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[CanvasBatch]:
        """Canvases from ``start`` on, in order, without copying any.

        The digits are laid on the backgrounds themselves and lifted off again when the next batch is asked for, so a
        batch is valid until then, and only one iterator may be open at a time.

        Args:
            batch_size: canvases per batch, at most ``num_backgrounds``; the last batch may be smaller.
            start: index of the first canvas.

        Yields:
            Batches of canvases, equal to those that indexing gives.
        """
        if not 1 <= batch_size <= self.num_backgrounds:
            raise ValueError(
                f"DigitCanvases.batches: batch_size must lie between 1 and num_backgrounds={self.num_backgrounds}; "
                f"got {batch_size}."
            )
        for first in range(start, self.length, batch_size):
            indices = range(first, min(first + batch_size, self.length))
            images = [self._backgrounds[i % self.num_backgrounds] for i in indices]
            view = self._views[[i % self.num_backgrounds for i in indices]]
            laid = [self._lay(i, image, cells) for i, image, cells in zip(indices, images, view, strict=True)]
            labels, boxes, digits, covered = zip(*laid, strict=True)
            try:
                yield CanvasBatch(images, view, torch.tensor(labels), torch.stack(boxes), torch.stack(digits))
            finally:
                for image, spots in zip(images, covered, strict=True):
                    for (y, x), pixels in spots:
                        image[0, y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels

    def _lay(
        self, index: int, image: Tensor, view: Tensor
    ) -> tuple[int, Tensor, Tensor, list[tuple[tuple[int, int], Tensor]]]:
        """Lay canvas ``index``'s digits on ``image`` and into ``view``, in place.

        Returns:
            Label, boxes, digits, and the pixels that the digits covered.
        """
        rng = np.random.default_rng((*self._key, 1, index))
        label = int(rng.integers(NUM_CLASSES))
        others = (label + rng.integers(1, NUM_CLASSES, _OTHERS)) % NUM_CLASSES
        digits = rng.permutation([label] * _COPIES + others.tolist())
        copies = iter(rng.choice(self._of_class[label], _COPIES, replace=False))
        boxes: list[tuple[int, int, int, int]] = []
        covered = []
        for digit in digits:
            which = next(copies) if digit == label else rng.choice(self._of_class[digit])
            glyph = self._glyphs[int(rng.integers(len(DIGIT_SIDES)))][which]
            side = glyph.shape[0]
            y, x = _free_place(rng, boxes, side, self.size)
            boxes.append((x, y, x + side, y + side))
            spot = image[0, y : y + side, x : x + side]
            covered.append(((y, x), spot.clone()))
            torch.maximum(spot, glyph, out=spot)
            top, left, bottom, right = y // CELL, x // CELL, -(-(y + side) // CELL), -(-(x + side) // CELL)
            touched = image[:, top * CELL : bottom * CELL, left * CELL : right * CELL]
            view[:, top:bottom, left:right] = _area_view(touched)
        return label, torch.tensor(boxes), torch.from_numpy(digits), covered


def _free_place(
    rng: np.random.Generator, taken: list[tuple[int, int, int, int]], side: int, size: int
) -> tuple[int, int]:
    """A top-left corner ``(y, x)`` whose square keeps a cell's distance from the boxes that are taken."""
    while True:
        y, x = rng.integers(size - side + 1, size=2).tolist()
        if all(
            x >= x1 + CELL or x + side + CELL <= x0 or y >= y1 + CELL or y + side + CELL <= y0
            for x0, y0, x1, y1 in taken
        ):
            return y, x


def _area_view(image: Tensor) -> Tensor:
    """``[1, H, W]`` uint8 to the means over its cells, ``[1, H / 32, W / 32]`` float32 in [0, 1]."""
    cells = image.unflatten(2, (-1, CELL)).unflatten(1, (-1, CELL))  # [1, h, 32, w, 32]
    total = cells.sum((2, 4), dtype=torch.int64)  # integers, so a part's view equals that part of the whole's view
    return total.float() / (255 * CELL * CELL)


def _load_glyphs(split: str) -> tuple[list[Tensor], list[NDArray[np.int64]]]:
    """A split's digits drawn at every side, ``[M, side, side]`` uint8 each, and the digits of every class."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("DigitCanvases needs scikit-learn: pip install 'zoomkern[demo]'") from error
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))  # the split is the same for every seed
    cut = len(order) * 3 // 4
    chosen = order[:cut] if split == "train" else order[cut:]
    small = torch.from_numpy(bunch.images[chosen]).float().unsqueeze(1) / 16  # [M, 1, 8, 8]
    small = F.pad(small, (1, 1, 1, 1))  # so that no stroke is cut off square at the edge
    drawn = []
    for side in DIGIT_SIDES:
        ink = F.interpolate(small, size=(side, side), mode="bicubic").squeeze(1).clamp(0, 1)
        edge = ((ink - 0.25) / 0.4).clamp(0, 1)
        drawn.append((edge * edge * (3 - 2 * edge) * 255).to(torch.uint8))
    classes = bunch.target[chosen]
    return drawn, [np.flatnonzero(classes == digit) for digit in range(NUM_CLASSES)]

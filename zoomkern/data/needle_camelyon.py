"""Needles in slides: crops of which a lesion fills a thousandth to a hundredth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.data.camelyon import Camelyon16
from zoomkern.data.dataset import ImageSet
from zoomkern.data.outlines import Outline, area_boxes, bounding_boxes, clip_to_window, total_area
from zoomkern.images.readers import Reader

_LENGTHS = {"train": 6000, "validation": 2000, "test": 2000}
_TRIES = 500
_BISECTIONS = 16
#: Every so many pixels one is asked whether it is tissue: coloured, by this much between its channels.
_STRIDE, _COLOUR = 8, 20


class NeedleCamelyon(ImageSet):
    """Does a crop of a slide show a lesion, which fills between 0.1 and 1 % of it?

    Half the crops, those of even index, show one. Such a crop is placed on a point of a lesion's outline at random and,
    where it shows too much, moved away in a random direction until it shows a share drawn log-uniformly from ``ratio``.
    The others are placed at random, on tumour slides too, and show nothing of a lesion. Both kinds must show tissue.

    Slides, not crops, are divided among the splits: six of ten for training, two each for validation and test, whatever
    the seed. The slide is the group. Crop ``i`` is a function of ``(slides, split, i)`` and the options; its window is
    looked for when it is first asked for, in the slide's pixels, so that reading crops in order of their groups is
    faster than at random.

    ``objects`` are boxes around the parts of lesions that a crop shows.

    Args:
        slides: slides with annotations.
        split: "train", "validation" or "test".
        length: number of crops; None is 6,000 for training, 2,000 for validation and for test.
        size: side of the square crop in pixels of the slides' files.
        ratio: least and largest share of the crop's area that lesions less their holes fill.
        min_tissue: least share of the crop's pixels that are coloured; 0 asks for none.
        seed: of everything but the division of the slides.

    Memory:
        The outlines of the split's lesions.

    Raises:
        ValueError: an argument is out of range, the slides have no annotations, are too few to divide or too small, or
            no lesion of a split is large enough.

    Source:
        Kong & Henao, CVPR 2022: 1024 x 1024, 6,000, 2,000 and 2,000 crops, lesions of 0.1 to 1 %. How its crops were
        placed is not published, so these are not the same ones. Slides: CAMELYON16, CC0.

    Example:
        >>> crops = NeedleCamelyon(Camelyon16("CAMELYON16"), "test")
        >>> len(crops), crops.size(0), crops.labels[:2]
        (2000, (1024, 1024), [1, 0])
    """

    def __init__(
        self,
        slides: Camelyon16,
        split: str = "train",
        *,
        length: int | None = None,
        size: int = 1024,
        ratio: tuple[float, float] = (0.001, 0.01),
        min_tissue: float = 0.1,
        seed: int = 0,
    ) -> None:
        checks.choice("split", split, tuple(_LENGTHS))
        number = checks.integer("length", _LENGTHS[split] if length is None else length, 1)
        self._side = checks.integer("size", size, 1)
        self._ratio = (checks.number("ratio[0]", ratio[0]), checks.number("ratio[1]", ratio[1]))
        if not self._ratio[0] < self._ratio[1] <= 1:
            raise ValueError(f"ratio must be two shares that rise up to 1; got {ratio}. Try (0.001, 0.01).")
        if not 0 <= min_tissue < 1:
            raise ValueError(f"min_tissue must be a share from 0 to below 1; got {min_tissue}. Try 0.1.")
        if not slides.is_annotated:
            raise ValueError("slides must have annotations; there is no folder of them. Put annotations/ beside them.")
        self._slides = slides
        self._min_tissue = min_tissue
        self._key = (checks.integer("seed", seed, 0, (1 << 63) - 1), list(_LENGTHS).index(split))
        part = _part(slides.labels, split)
        for slide in part:
            if min(slides.size(slide)) < self._side:
                raise ValueError(f"size must fit in every slide; {slides.names[slide]} is {slides.size(slide)}.")
        self._outlines = {slide: slides.polygons(slide) for slide in part}
        least = self._ratio[0] * self._side**2
        self._lesions = {  # those that reach the least share on their own
            slide: [o.points.numpy() for o in outlines if not o.is_hole and total_area([o]) >= least]
            for slide, outlines in self._outlines.items()
        }
        fit = [slide for slide in part if self._lesions[slide]]
        if not fit:
            raise ValueError(
                f"ratio[0] must be reached by a lesion of a {split} slide; none has {least:g} pixels. Lower it."
            )
        rng = np.random.default_rng((*self._key, 0))
        self._of_crop = [int(rng.choice(part if i % 2 else fit)) for i in range(number)]
        self._windows: dict[int, tuple[int, int, int, int]] = {}
        self._open: tuple[int, Reader] | None = None
        super().__init__(
            list(slides.classes),
            [f"{split}_{i:06d}" for i in range(number)],
            [1 - i % 2 for i in range(number)],
            [slides.names[slide] for slide in self._of_crop],
        )

    def image(self, index: int) -> Tensor:
        """``[C, size, size]``, the crop's pixels as a copy."""
        x0, y0, x1, y1 = self.window(index)
        return self._pixels(self._of_crop[index], (x0, y0, x1, y1))

    def size(self, index: int) -> tuple[int, int]:
        """``(size, size)``."""
        return self._side, self._side

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64: boxes around the parts of lesions in the crop."""
        return bounding_boxes([outline for outline in self.polygons(index) if not outline.is_hole])

    def areas(self, index: int) -> Tensor:
        """``[K, 4]`` float64: boxes that cover the lesions less their holes, strip by strip."""
        return area_boxes(self.polygons(index))

    def polygons(self, index: int) -> list[Outline]:
        """Outlines in the crop, cut at its edges, in its own coordinates."""
        return clip_to_window(self._outlines[self._of_crop[index]], self.window(index))

    def window(self, index: int) -> tuple[int, int, int, int]:
        """Where in its slide the crop lies: x0, y0, x1, y1.

        Raises:
            ValueError: no window of the slide meets the conditions.
        """
        index = range(len(self))[index]
        if index not in self._windows:
            self._windows[index] = self._find(index)
        return self._windows[index]

    def _find(self, index: int) -> tuple[int, int, int, int]:
        slide = self._of_crop[index]
        height, width = self._slides.size(slide)
        rng = np.random.default_rng((*self._key, 1, index))
        for _ in range(_TRIES):
            if self.labels[index]:
                x, y = self._beside_lesion(rng, slide)
            else:
                x, y = rng.integers((width - self._side + 1, height - self._side + 1)).tolist()
            if not (0 <= x <= width - self._side and 0 <= y <= height - self._side):
                continue
            window = (x, y, x + self._side, y + self._side)
            share = self._share(slide, x, y)
            fits = self._ratio[0] <= share <= self._ratio[1] if self.labels[index] else not self._shows(slide, window)
            if fits and self._tissue(slide, window) >= self._min_tissue:
                return window
        raise ValueError(
            f"no crop of the slide {self._slides.names[slide]} was found in {_TRIES} tries that shows tissue and "
            f"{'a lesion' if self.labels[index] else 'no lesion'} as wanted. Widen ratio, or lower min_tissue."
        )

    def _beside_lesion(self, rng: np.random.Generator, slide: int) -> tuple[int, int]:
        """Top-left corner ``(x, y)`` of a window that should show a share within the ratio."""
        points = self._lesions[slide][rng.integers(len(self._lesions[slide]))]
        corner = points[rng.integers(len(points))] - rng.uniform(0, self._side, 2)
        low, high = self._ratio
        target = math.exp(rng.uniform(math.log(low), math.log(high)))
        angle = rng.uniform(0, 2 * math.pi)
        direction = np.array([math.cos(angle), math.sin(angle)])
        near, far = 0.0, 0.0
        if self._share(slide, *corner) > high:  # then the share falls to the target somewhere on the way out
            far = 2.0 * self._side
            for _ in range(_BISECTIONS):
                middle = (near + far) / 2
                shows_more = self._share(slide, *(corner + middle * direction)) > target
                near, far = (middle, far) if shows_more else (near, middle)
        x, y = np.round(corner + far * direction).astype(int).tolist()
        return x, y

    def _share(self, slide: int, x: float, y: float) -> float:
        """Share of the window at ``(x, y)`` that lesions fill."""
        window = (x, y, x + self._side, y + self._side)
        return total_area(clip_to_window(self._outlines[slide], window)) / self._side**2

    def _shows(self, slide: int, window: tuple[int, int, int, int]) -> bool:
        """Whether a window has any part of a lesion."""
        return any(not outline.is_hole for outline in clip_to_window(self._outlines[slide], window))

    def _tissue(self, slide: int, window: tuple[int, int, int, int]) -> float:
        """Share of a window's pixels that are coloured, from some of them."""
        if self._min_tissue == 0:
            return 1.0
        pixels = self._pixels(slide, window)[:, ::_STRIDE, ::_STRIDE].int()
        return float((pixels.amax(0) - pixels.amin(0) >= _COLOUR).float().mean())

    def _pixels(self, slide: int, window: tuple[int, int, int, int]) -> Tensor:
        """``[C, h, w]`` of a window, x0, y0, x1, y1, of a slide."""
        if self._open is None or self._open[0] != slide:
            self._open = (slide, self._slides.reader(slide))
        x0, y0, x1, y1 = window
        pixels = self._open[1].read_window(0, y0, x0, y1 - y0, x1 - x0)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}  # another process opens the slide itself


def _part(labels: list[int], split: str) -> list[int]:
    """The slides of a split: of each class six, two and two of ten, and of few at least one each."""
    chosen = []
    for label in sorted(set(labels)):
        own = np.flatnonzero(np.array(labels) == label)
        if len(own) < 3:
            raise ValueError(f"slides must have three of each class at least, to be divided; got {len(own)}.")
        order = np.random.default_rng(0).permutation(own)  # the division is the same for every seed
        few = max(1, len(own) // 5)
        bounds = {"train": (2 * few, None), "validation": (few, 2 * few), "test": (0, few)}[split]
        chosen += order[slice(*bounds)].tolist()
    return sorted(chosen)

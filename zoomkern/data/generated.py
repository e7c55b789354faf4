"""What every generated set shares: images that are made when asked for, each from its number alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from zoomkern import checks
from zoomkern.data.dataset import ImageSet


class GeneratedSet(ImageSet):
    """Images of which each is a function of ``(seed, split, index)`` alone.

    Any image can be made again, in any process and any order, so nothing is stored and nothing is lost on resuming. A
    longer set begins with the images of a shorter one.

    Args:
        classes: name of every class.
        split: one of ``splits``.
        splits: the names of the splits; they share no random numbers.
        length: number of images.
        canvas: ``(H, W)`` of every image, in pixels.
        seed: of everything.
        label: class of the image ``index``; called once for each.

    Attributes:
        split: as given, and so ``canvas``.
    """

    def __init__(
        self,
        classes: list[str],
        split: str,
        splits: Sequence[str],
        length: int,
        canvas: tuple[int, int],
        seed: int,
        label: Callable[[int], int],
    ) -> None:
        self.split = checks.choice("split", split, splits)
        self.canvas = canvas
        self._key = (checks.integer("seed", seed, 0, (1 << 64) - 1), list(splits).index(split))
        count = checks.integer("length", length, 1)
        names = [f"{split}-{index:06d}" for index in range(count)]
        super().__init__(classes, names, [label(index) for index in range(count)])

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` in pixels, the same for every image."""
        return self.canvas

    def generator(self, index: int) -> np.random.Generator:
        """The random numbers of image ``index``, from their beginning."""
        return np.random.default_rng((*self._key, 1, index))

    def bank_generator(self) -> np.random.Generator:
        """The random numbers of what the images of a split share, from their beginning."""
        return np.random.default_rng((*self._key, 0))

    def coin(self, index: int) -> int:
        """A label, 0 or 1: within each pair of images ``2 k`` and ``2 k + 1`` one of each, in random order."""
        return int(np.random.default_rng((*self._key, 2, index // 2)).integers(2)) ^ (index & 1)

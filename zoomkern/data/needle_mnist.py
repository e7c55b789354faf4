"""Needle MNIST: is there a 3 among the digits that litter the canvas?"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoomkern import checks
from zoomkern.data.generated import GeneratedSet
from zoomkern.data.idx import DIGIT_SIDE, NUM_DIGITS, load_mnist

_LENGTHS = {"train": 11276, "test": 1000}
_LITTERED = (5 * DIGIT_SIDE / 256) ** 2  # 0.299: the published 25 distractors on a canvas of 256 pixels


class NeedleMNIST(GeneratedSet):
    """One digit of a class on half of the canvases, other digits strewn over all of them.

    How small the needle is, its area over that of the canvas (:attr:`object_ratio`), is set by ``size``. By default
    the squares of the distractors make up 29.9 % of the canvas' area, which is the published series:

    ===========  ====  ====  ====  ====  =====  =====  ======  ======
    size           64   128   256   512   1024   2048    4096    6144
    distractors     2     6    25   100    400   1600    6400   14400
    ratio in %   19.1   4.8   1.2  0.30  0.075  0.019  0.0047  0.0021
    ===========  ====  ====  ====  ====  =====  =====  ======  ======

    Distractors lie anywhere and may overlap; where they do, the brighter pixel wins. The needle is laid last and
    replaces what lay in its square, so it is never covered. On a canvas without a needle one more distractor is laid in
    its way, so both classes have as many digits, and one of them laid last.

    Args:
        root: folder of MNIST's files; which digits make up a split says :func:`~zoomkern.data.idx.load_mnist`.
        split: "train" or "test".
        size: ``(H, W)`` of the canvas in pixels, or one int.
        length: number of canvases, one of each class in every pair; by default 11276 for training and 1000 for test.
        digit: the needle.
        distractors: other digits on a canvas; by default ``round(0.299 H W / object_side ** 2)``.
        object_side: side of a digit in pixels; digits are resized to it.
        seed: of everything.

    Attributes:
        distractors: as given or derived.

    Memory:
        The split's digits; making a canvas allocates that canvas.

    Raises:
        FileNotFoundError: a file of MNIST is missing.
        ValueError: an argument is out of range.

    Source:
        Pawlowski et al., Needles in Haystacks: On Classifying Tiny Objects in Large Images, arXiv 1908.06037; its sizes
        and numbers of distractors. How digits may overlap is ours. Digits: MNIST (LeCun & Cortes, CC BY-SA
        3.0).

    Example:
        >>> canvases = NeedleMNIST("data/mnist", "test", size=512)
        >>> canvases.distractors, round(100 * canvases.object_ratio, 2)
        (100, 0.3)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        size: int | tuple[int, int] = 512,
        length: int | None = None,
        digit: int = 3,
        distractors: int | None = None,
        object_side: int = DIGIT_SIDE,
        seed: int = 0,
    ) -> None:
        checks.choice("split", split, tuple(_LENGTHS))
        self.digit = checks.integer("digit", digit, 0, NUM_DIGITS - 1)
        height, width = canvas = checks.pair("size", size)
        self.object_side = checks.integer("object_side", object_side, 1, min(canvas))
        if distractors is None:
            distractors = round(_LITTERED * height * width / object_side**2)
        self.distractors = checks.integer("distractors", distractors, 0)
        digits = load_mnist(root, split)
        self._glyphs = _resized(digits.images, object_side)
        self._needles = np.flatnonzero(digits.labels == digit)
        self._others = np.flatnonzero(digits.labels != digit)
        classes = [f"no {digit}", f"a {digit}"]
        count = _LENGTHS[split] if length is None else length
        super().__init__(classes, split, tuple(_LENGTHS), count, canvas, seed, self.coin)

    @property
    def object_ratio(self) -> float:
        """Area of the needle's square over that of the canvas."""
        return self.object_side**2 / (self.canvas[0] * self.canvas[1])

    def image(self, index: int) -> Tensor:
        """The canvas, ``[1, H, W]`` uint8."""
        rng = self.generator(index)
        corners = self._corners(rng, 1 + self.distractors)
        which = rng.choice(self._others, 1 + self.distractors)
        if self.labels[index]:
            which[0] = rng.choice(self._needles)
        side = self.object_side
        canvas = np.zeros(self.canvas, np.uint8)
        for glyph, (y, x) in zip(which[1:].tolist(), corners[1:].tolist(), strict=True):
            spot = canvas[y : y + side, x : x + side]
            np.maximum(spot, self._glyphs[glyph], out=spot)
        y, x = corners[0]
        canvas[y : y + side, x : x + side] = self._glyphs[which[0]]
        return torch.from_numpy(canvas)[None]

    def objects(self, index: int) -> Tensor:
        """``[1, 4]`` float64 xyxy, the needle's square; ``[0, 4]`` where there is none."""
        y, x = self._corners(self.generator(index), 1)[0].tolist()
        box = torch.tensor([[x, y, x + self.object_side, y + self.object_side]], dtype=torch.float64)
        return box[: self.labels[index]]

    def _corners(self, rng: np.random.Generator, number: int) -> NDArray[np.int64]:
        """``[number, 2]`` top-left corners, uniform; the first does not depend on how many follow."""
        free = np.array(self.canvas) - self.object_side + 1
        return (rng.random((number, 2)) * free).astype(np.int64)


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Digits resized to a side, smoothed first where they shrink."""
    if side == DIGIT_SIDE:
        return images
    large = F.interpolate(torch.from_numpy(images.copy())[:, None], (side, side), mode="bilinear", antialias=True)
    return large[:, 0].numpy()

"""Megapixel MNIST: which digit occurs three times among five, on a large canvas of line noise."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoomkern import checks
from zoomkern.data.generated import GeneratedSet
from zoomkern.data.idx import DIGIT_SIDE, NUM_DIGITS, load_mnist

PASTES = ("noise-over-digits", "digits-over-noise")
TASKS = ("majority", "max", "top")

_BANK = 50  # noise glyphs
_LENGTHS = {"train": 5000, "test": 1000}


class Layout(NamedTuple):
    """What lies where on one canvas.

    Args:
        which: ``[D]`` the digits, as indices into the split's.
        corners: ``[D, 2]`` their top-left corners ``(y, x)``.
    """

    which: NDArray[np.int64]
    corners: NDArray[np.int64]


class MegapixelMNIST(GeneratedSet):
    """Three digits of one class and two of others on a black canvas of 1500 x 1500, strewn with line noise.

    Digits lie at ``round(U * (H - 28, W - 28))``, none overlapping another; noise glyphs at ``floor(U * (H - 56,
    W - 56)) + 28``, anywhere. Whatever is pasted replaces all 28 x 28 pixels that were there. A noise glyph, one of 50,
    is two straight lines of slope ``tan(U pi / 2.5)`` from a corner, the second one flipped along either axis with
    probability 0.33, each pixel with a brightness in U(0.8, 1).

    The protocol is Katharopoulos and Fleuret's with two choices left open. The order of pasting: they paste the noise
    last, so that it may hide a digit; Bergner et al. paste the digits last. The task: their question is "majority"
    (which digit occurs three times); Bergner et al. also ask for the largest digit ("max") and for the topmost one
    ("top"). What the canvas shows in all (their fourth task) is :meth:`digits`. The random numbers are ours, so single
    canvases differ from theirs. A smaller canvas with less noise, such as ``size=512, num_noise=6``, keeps the task
    and the density of noise and is fit for a CPU.

    Args:
        root: folder of MNIST's files; which digits make up a split says :func:`~zoomkern.data.idx.load_mnist`.
        split: "train" or "test".
        size: ``(H, W)`` of the canvas in pixels, or one int.
        length: number of canvases; by default 5000 for training and 1000 for test.
        paste: "noise-over-digits" (Katharopoulos and Fleuret) or "digits-over-noise" (Bergner et al.).
        task: "majority", "max" or "top".
        copies: digits of the class that is in the majority.
        others: digits of other classes, fewer than ``copies``.
        num_noise: noise glyphs on a canvas.
        seed: of everything.

    Memory:
        The split's digits; making a canvas allocates that canvas.

    Raises:
        FileNotFoundError: a file of MNIST is missing.
        ValueError: an argument is out of range, or the canvas too small for its digits.

    Source:
        Katharopoulos & Fleuret, Processing Megapixel Images with Deep Attention-Sampling Models, ICML 2019; Bergner,
        Lippert & Mahendran, Iterative Patch Selection for High-Resolution Image Recognition, ICLR 2023. Digits: MNIST
        (LeCun & Cortes, CC BY-SA 3.0).

    Example:
        >>> canvases = MegapixelMNIST("data/mnist", "train", size=512, num_noise=6)
        >>> canvases[0].image.shape, canvases[0].objects.shape
        (torch.Size([1, 512, 512]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        size: int | tuple[int, int] = 1500,
        length: int | None = None,
        paste: str = "noise-over-digits",
        task: str = "majority",
        copies: int = 3,
        others: int = 2,
        num_noise: int = 50,
        seed: int = 0,
    ) -> None:
        checks.choice("split", split, tuple(_LENGTHS))
        self.paste = checks.choice("paste", paste, PASTES)
        self.task = checks.choice("task", task, TASKS)
        self.num_noise = checks.integer("num_noise", num_noise, 0)
        self.copies = checks.integer("copies", copies, 1)
        self.others = checks.integer("others", others, 0, self.copies - 1)
        height, width = canvas = checks.pair("size", size)
        # Every digit that lies rules out at most 55 x 55 corners; noise begins 28 pixels from the edge.
        blocked = (2 * DIGIT_SIDE - 1) ** 2 * (copies + others - 1)
        if min(canvas) < 2 * DIGIT_SIDE or (height - DIGIT_SIDE) * (width - DIGIT_SIDE) <= blocked:
            raise ValueError(f"size must leave room for {copies + others} digits; got {canvas}. Make it larger.")
        self._digits = load_mnist(root, split)
        labels = self._digits.labels
        self._of_class = [np.flatnonzero(labels == digit) for digit in range(NUM_DIGITS)]
        self._of_others = [np.flatnonzero(labels != digit) for digit in range(NUM_DIGITS)]
        classes = [str(digit) for digit in range(NUM_DIGITS)]
        count = _LENGTHS[split] if length is None else length
        super().__init__(classes, split, tuple(_LENGTHS), count, canvas, seed, self._label)
        self._noise = _noise_glyphs(self.bank_generator())

    def image(self, index: int) -> Tensor:
        """The canvas, ``[1, H, W]`` uint8."""
        rng = self.generator(index)
        layout = self._lay(rng)
        canvas = np.zeros(self.canvas, np.uint8)
        room = np.array(self.canvas) - 2 * DIGIT_SIDE
        corners = (rng.random((self.num_noise, 2)) * room).astype(np.int64) + DIGIT_SIDE
        noise = (self._noise[rng.integers(_BANK, size=self.num_noise)], corners)
        digits = (self._digits.images[layout.which], layout.corners)
        for glyphs, places in (digits, noise) if self.paste == "noise-over-digits" else (noise, digits):
            for glyph, (y, x) in zip(glyphs, places, strict=True):
                canvas[y : y + DIGIT_SIDE, x : x + DIGIT_SIDE] = glyph
        return torch.from_numpy(canvas)[None]

    def objects(self, index: int) -> Tensor:
        """``[D, 4]`` float64 xyxy, the digits: those of the majority first."""
        corners = torch.from_numpy(self._lay(self.generator(index)).corners).flip(1).double()
        return torch.cat([corners, corners + DIGIT_SIDE], 1)

    def digits(self, index: int) -> Tensor:
        """``[D]`` int64, what the digits are, in the order of :meth:`objects`."""
        return torch.from_numpy(self._digits.labels[self._lay(self.generator(index)).which]).long()

    def _lay(self, rng: np.random.Generator) -> Layout:
        target = int(rng.integers(NUM_DIGITS))
        same, other = rng.choice(self._of_class[target], self.copies), rng.choice(self._of_others[target], self.others)
        room = np.array(self.canvas) - DIGIT_SIDE
        corners = np.empty((0, 2), np.int64)
        while len(corners) < self.copies + self.others:
            corner = np.rint(rng.random(2) * room).astype(np.int64)
            if not (np.abs(corners - corner) < DIGIT_SIDE).all(1).any():
                corners = np.vstack([corners, corner])
        return Layout(np.concatenate([same, other]), corners)

    def _label(self, index: int) -> int:
        layout = self._lay(self.generator(index))
        digits = self._digits.labels[layout.which]
        if self.task == "max":
            return int(digits.max())
        return int(digits[layout.corners[:, 0].argmin() if self.task == "top" else 0])


def _noise_glyphs(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The bank of noise glyphs, ``[50, 28, 28]``."""
    last = DIGIT_SIDE - 1
    lines = np.zeros((_BANK, DIGIT_SIDE, DIGIT_SIDE), bool)
    for line, slope in zip(lines, np.tan(rng.random(_BANK) * np.pi / 2.5), strict=True):
        along = np.linspace(0, min(last, last / slope), 2 * DIGIT_SIDE)
        line[np.rint(along).astype(int), np.rint(slope * along).astype(int)] = True
    second = rng.permutation(lines)
    for axis in (1, 2):
        flipped = rng.random(_BANK) < 0.33
        second[flipped] = np.flip(second[flipped], axis)
    return ((lines | second) * rng.uniform(0.8, 1, lines.shape) * 255).astype(np.uint8)

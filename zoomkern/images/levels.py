"""What an image at several sizes says of its levels, and how one of them is named."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence

#: Microns per pixel at a magnification of 1, as slide scanners count: 40 x is 0.25.
MPP_AT_ONE = 10.0


class Levels(ABC):
    """Level 0 is the finest; sizes are ``(width, height)``, as OpenSlide says them.

    Attributes:
        mpp: Microns (or any unit) per pixel of level 0; None where it is unknown.
    """

    mpp: float | None

    @property
    @abstractmethod
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """``(width, height)`` of each level."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What an error calls the image."""

    @property
    def level_count(self) -> int:
        """The number of levels."""
        return len(self.level_dimensions)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """How many pixels of level 0 a pixel of each level stands for, along a side: the mean of both sides."""
        width, height = self.level_dimensions[0]
        return tuple((width / w + height / h) / 2 for w, h in self.level_dimensions)

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """The coarsest level that is no coarser than ``downsample``; level 0 if none is, as in OpenSlide."""
        fine_enough = [i for i, known in enumerate(self.level_downsamples) if known <= downsample]
        return fine_enough[-1] if fine_enough else 0

    def level_for(
        self,
        level: int | None = None,
        downsample: float | None = None,
        mpp: float | None = None,
        magnification: float | None = None,
        tolerance: float = 0.05,
    ) -> int:
        """The level that one of four names means; level 0 without any.

        Args:
            level: The level itself.
            downsample: Its downsample.
            mpp: Its microns per pixel; needs :attr:`mpp` of level 0.
            magnification: Its magnification, ``10 / mpp``; needs :attr:`mpp` of level 0.
            tolerance: By which part ``downsample``, ``mpp`` or ``magnification`` may be off.

        Raises:
            TypeError: ``level`` is no int.
            IndexError: There is no such ``level``.
            ValueError: More than one is given, no level fits, or the image's own mpp is unknown.
        """
        names = {"level": level, "downsample": downsample, "mpp": mpp, "magnification": magnification}
        given = [name for name, value in names.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{', '.join(names)} name the same thing; got {' and '.join(given)}. Keep one.")
        if level is not None:
            return self.checked_level(level)
        if downsample is not None:
            return _nearest("downsample", downsample, self.level_downsamples, tolerance)
        if mpp is not None:
            return _nearest("mpp", mpp, self._level_mpps(f"mpp={mpp}"), tolerance)
        if magnification is not None:
            known = [MPP_AT_ONE / value for value in self._level_mpps(f"magnification={magnification}")]
            return _nearest("magnification", magnification, known, tolerance)
        return 0

    def checked_level(self, level: int) -> int:
        """``level``, which must be an int and one of the image's.

        Raises:
            TypeError: It is no int.
            IndexError: There is no such level.
        """
        if isinstance(level, bool) or not isinstance(level, numbers.Integral):
            raise TypeError(f"level must be an int; got {type(level).__name__}. Pass a number from 0, the finest.")
        if not 0 <= level < self.level_count:
            sizes = ", ".join(f"{i}: {w} x {h}" for i, (w, h) in enumerate(self.level_dimensions))
            raise IndexError(f"level must be from 0 to {self.level_count - 1}; got {level}. There are {sizes}.")
        return int(level)

    def _level_mpps(self, wanted: str) -> list[float]:
        if self.mpp is None:
            raise ValueError(
                f"{wanted} needs the mpp of {self.name}, which it does not tell. Open it with mpp=, or list it in a "
                "CSV file of the columns image and mpp."
            )
        return [self.mpp * known for known in self.level_downsamples]


def _nearest(name: str, wanted: float, known: Sequence[float], tolerance: float) -> int:
    nearest = min(range(len(known)), key=lambda i: abs(known[i] - wanted))
    if not abs(known[nearest] - wanted) <= tolerance * wanted:
        there = ", ".join(f"{value:.4g}" for value in known)
        raise ValueError(
            f"{name} must be within {tolerance:.0%} of a level's; got {wanted}. There are {there}. "
            "Choose one of them or raise tolerance=."
        )
    return nearest

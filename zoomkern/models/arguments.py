"""Arguments that several networks take, refused before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoomkern import checks
from zoomkern.reference.sampling import ESTIMATORS

#: How pixels become numbers: further arguments of :func:`zoomkern.gather_patches` at any place and scale.
PIXELS = ("fill", "scale", "shift", "mean", "std", "dtype", "memory_format", "backend")
#: The others of them, which choose the pixels.
PLACES = ("step", "padding_mode")
#: What :func:`zoomkern.sample_patches` takes besides.
DRAWING = ("align", "on_short")


def checked_reading(reading: dict[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """``reading``, every name of which must be one of ``allowed``."""
    for name in reading:
        checks.choice("a further argument", name, allowed)
    return dict(reading)


def checked_rule(name: str, estimator: str | None, sampler: str) -> str | None:
    """``estimator``, which must be a weight rule of ``sampler``; None is its first."""
    return None if estimator is None else checks.choice(name, estimator, ESTIMATORS[sampler])

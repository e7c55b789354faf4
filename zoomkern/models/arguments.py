"""Arguments that several networks take, refused before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from zoomkern import checks
from zoomkern.reference.expectation import GRADIENTS
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


def linear_classifier(num_features: Any, num_classes: int) -> nn.Linear:
    """From features to class scores."""
    return nn.Linear(int(num_features), checks.integer("num_classes", num_classes, 1))


def checked_rule(name: str, estimator: str | None, sampler: str) -> str | None:
    """``estimator``, which must be a weight rule of ``sampler``; None is its first."""
    return None if estimator is None else checks.choice(name, estimator, ESTIMATORS[sampler])


def checked_gradient(gradient: str, pooling: object, draws: Sequence[tuple[str, str | None]]) -> str:
    """``gradient``; a published one is that of an expectation, over draws by "gumbel" with the weights "desraj".

    Args:
        gradient: one of :data:`GRADIENTS`.
        pooling: None is the expectation.
        draws: sampler and estimator of each stage that it goes through.
    """
    checks.choice("gradient", gradient, GRADIENTS)
    if gradient == "exact":
        return gradient
    if pooling is not None:
        raise ValueError(f"gradient must be 'exact' with a pooling of its own; got {gradient!r}.")
    for sampler, estimator in draws:
        if (sampler, estimator) != ("gumbel", "desraj"):
            raise ValueError(
                f"gradient {gradient!r} holds for draws by 'gumbel' with the estimator 'desraj'; got {sampler!r} with "
                f"{estimator or ESTIMATORS[sampler][0]!r}. Choose these, or the gradient 'exact'."
            )
    return gradient

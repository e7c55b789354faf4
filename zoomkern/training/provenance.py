"""What weights were trained for, as the files beside them say: layers of one shape may have learned something else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoomkern.training.weights import CLASSES

#: The configuration beside a run's weights.
CONFIG = "config.yaml"


def trained_classes(weights: Path) -> list[str] | None:
    """Names of the classes that weights tell apart; None where no file says.

    Raises:
        ValueError: the file is damaged.
    """
    beside = weights.with_name(CLASSES)
    if not beside.is_file():
        return None
    try:
        return [str(name) for name in json.loads(beside.read_text())]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(beside)!r} must be a JSON list of class names: {error}. Fetch it again.") from error


def require_same_classes(weights: Path, classes: Sequence[str]) -> None:
    """Compare the classes of images with those that weights tell apart.

    Raises:
        ValueError: they differ.
    """
    theirs, ours = trained_classes(weights), [str(name) for name in classes]
    if theirs is not None and theirs != ours:
        raise ValueError(
            f"{str(weights)!r} tells {', '.join(theirs)} apart, and these images are of {', '.join(ours)}. "
            f"Give the {CONFIG} of the weights' own run, or images of its classes."
        )


def warn_of_another_network(weights: Path, network: Mapping[str, Any]) -> None:
    """Warn where a network of the same layers has other settings than the one that was trained.

    Args:
        weights: the file; a run keeps its configuration beside it.
        network: class path and arguments of the network that is to have them.
    """
    beside = weights.with_name(CONFIG)
    if not beside.is_file():
        return
    try:
        trained = yaml.safe_load(beside.read_text())["model"]["model"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        return  # it is no run's
    changed = [f"{name} is {mine!r} and was {theirs!r}" for name, theirs, mine in _differences(trained, network, "")]
    if changed:
        warnings.warn(
            f"{str(weights)!r} was trained with other settings of the network: {'; '.join(changed)}. Is that meant? "
            f"Those of the run are in {str(beside)!r}.",
            stacklevel=2,
        )


def _differences(theirs: Any, mine: Any, name: str) -> list[tuple[str, Any, Any]]:
    """Settings that both name, and that differ."""
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        found = []
        for key in theirs:
            if key in mine:
                found += _differences(theirs[key], mine[key], f"{name}.{key}".lstrip("."))
        return found
    same = list(theirs) == list(mine) if isinstance(theirs, (list, tuple)) and isinstance(mine, (list, tuple)) else None
    return [] if (theirs == mine if same is None else same) else [(name, theirs, mine)]

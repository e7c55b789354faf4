"""A run folder belongs to one division of one set: another one would test on images that trained it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import yaml

#: What a run may be resumed with that it did not begin with.
_FREE = ("num_workers", "resident", "watch_test")
#: What says which images are held out of a set.
_DIVISION = ("validation", "num_folds", "fold", "division")


def require_same_data(path: Path, own: str) -> None:
    """Compare the images, their order and their seeds with those that a run began with.

    Args:
        path: the configuration that it began with.
        own: the configuration to go on with, as YAML.

    Raises:
        ValueError: they differ; the message says in what.
    """
    if path.exists():
        then, now = _read(path.read_text()), _read(own)
        names = [f"data.{name}" for name in now["data"] if name not in _FREE]
        _require(path, then, now, ["seed_everything", *names], "went on with other images, batches or draws")


def require_same_division(path: Path, own: str) -> None:
    """Compare which images of a set are held out with those of the run that trained; of another set it only warns.

    Args:
        path: the run's configuration.
        own: the configuration to look with, as YAML.

    Raises:
        ValueError: the images are the same, and others of them are held out; the message says why.
    """
    if path.exists():
        then, now = _read(path.read_text()), _read(own)
        if _value(then, "data.images") == _value(now, "data.images"):
            _require(path, then, now, [f"data.{name}" for name in _DIVISION], "was tested on images that trained it")
        else:
            warnings.warn(
                f"data.images is another set than the run in {str(path.parent)!r} was trained with: the figures count "
                "only where none of these images is in that one.",
                stacklevel=2,
            )


def _read(text: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _require(path: Path, then: dict[str, Any], now: dict[str, Any], names: list[str], harm: str) -> None:
    for name in names:
        first, second = _value(then, name), _value(now, name)
        if first != second:
            raise ValueError(
                f"{name} must be {first!r}, with which the run in {str(path.parent)!r} was trained, or it {harm}; got "
                f"{second!r}. Give the same, or another --folder."
            )


def _value(config: dict[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return _resolved(value)


def _resolved(value: Any) -> Any:
    """A setting in which every path that is there is written in one way."""
    if isinstance(value, dict):
        return {name: _resolved(part) for name, part in value.items()}
    if isinstance(value, str) and os.path.exists(path := os.path.expandvars(value)):
        return os.path.realpath(path)
    return value

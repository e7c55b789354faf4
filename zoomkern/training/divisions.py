"""A run folder belongs to one division of one set: another one would test on images that trained it."""

from __future__ import annotations

import csv
import io
import os
import warnings
from pathlib import Path
from typing import Any

import yaml

from zoomkern.data import ImageFolder
from zoomkern.training.data import ClassificationDataModule

#: What a run may be resumed with that it did not begin with.
_FREE = ("num_workers", "resident", "watch_test")
#: What says where an epoch ends, and when the weights change.
_STEPS = ("trainer.accumulate_grad_batches", "trainer.limit_train_batches")
#: What says which images are held out of a set.
_DIVISION = ("validation", "num_folds", "folds_file", "fold", "division")


def require_same_data(path: Path, own: str, table: Path, data: ClassificationDataModule) -> None:
    """Compare the task, the images, their order and their seeds with those that a run began with.

    Args:
        path: the configuration that it began with.
        own: the configuration to go on with, as YAML.
        table: the run's :func:`division_table`.
        data: the images to go on with.

    Raises:
        ValueError: they differ; the message says in what.
    """
    if path.exists():
        then, now = _read(path.read_text()), _read(own)
        names = [f"data.{name}" for name in now["data"] if name not in _FREE]
        _require(path, then, now, ["model.model"], "was two networks")
        _require(path, then, now, ["model.optimizer"], "went on with that of its checkpoint all the same")
        _require(path, then, now, ["seed_everything", *names, *_STEPS], "went on with other images, batches or draws")
    if table.exists():
        require_same_division(table, data)


def require_same_division(table: Path, data: ClassificationDataModule) -> None:
    """Compare the images, and the split of each, with those that a run or a cross-validation began with.

    Args:
        table: its :func:`division_table`.
        data: the images to go on with.

    Raises:
        ValueError: they differ; the message names one.
    """
    before, after = (_splits(text) for text in (table.read_text(), division_table(data)))
    changed = sorted({name for name, _ in before ^ after})
    if changed:
        raise ValueError(
            f"images must be those that {str(table.parent)!r} began with, each in its split; {len(changed)} differ, "
            f"such as {changed[0]!r}: some were added or taken away since. Restore them, or give another folder."
        )


def require_apart(folder: Path, data: ClassificationDataModule) -> None:
    """What a run writes must not lie among the images that it learns from.

    Raises:
        ValueError: its folder is one of images, or in one.
    """
    images = data.sets["train"].images
    if not isinstance(images, ImageFolder):
        return  # others read what they list
    first, name = Path(images.source(0)), images.names[0]
    if not first.as_posix().endswith(f"/{name}"):
        return  # a link from elsewhere
    root = first.parents[name.count("/")]
    if folder.resolve().is_relative_to(root):
        raise ValueError(
            f"--folder must not lie in {str(root)!r}, for its pictures would be taken for images; got {str(folder)!r}. "
            "Give another one."
        )


def division_table(data: ClassificationDataModule) -> str:
    """CSV: every image, the split that it is in, and its file where it has one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "split", "file"])
    for split in ("train", "validation", "test") if data.has_test else ("train", "validation"):
        images = data.sets[split].images
        table.writerows([images.names[i], split, images.source(i)] for i in data.indices[split])
    return text.getvalue()


def require_unseen(config: Path, table: Path, own: str, data: ClassificationDataModule, split: str) -> None:
    """Compare the images to look at with those that trained a run: by their files, or else by the configurations.

    Args:
        config: the run's configuration.
        table: the run's :func:`division_table`.
        own: the configuration to look with, as YAML.
        data: the images to look at.
        split: which of them.

    Raises:
        ValueError: some trained the run; the message says which, or what of the configuration makes it so.
    """
    if not config.exists():
        return
    then, now = _read(config.read_text()), _read(own)
    same = _value(then, "data.images") == _value(now, "data.images")
    if same:
        _require(config, then, now, [f"data.{name}" for name in _DIVISION], "was tested on images that trained it")
    files = {data.sets[split].images.source(i) for i in data.indices[split]} - {""}
    if files and table.exists():
        with table.open(newline="") as file:
            seen = sorted(files & {row["file"] for row in csv.DictReader(file) if row["split"] == "train"})
        if seen:
            raise ValueError(
                f"{len(seen)} of the {len(data.indices[split])} images to look at trained the run in "
                f"{str(config.parent)!r}, such as {seen[0]!r}. Give other images, or its own {config.name}."
            )
    elif not same:
        warnings.warn(
            f"data.images is another set than the run in {str(config.parent)!r} was trained with: the figures count "
            "only where none of these images is in that one.",
            stacklevel=2,
        )


def _splits(table: str) -> set[tuple[str, str]]:
    """Name and split of every image of a :func:`division_table`; images of two sets may have one name."""
    return {(row["image"], row["split"]) for row in csv.DictReader(io.StringIO(table))}


def _read(text: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _require(path: Path, then: dict[str, Any], now: dict[str, Any], names: list[str], harm: str) -> None:
    for name in names:
        first, second = _value(then, name), _value(now, name)
        while isinstance(first, dict) and isinstance(second, dict) and first != second:  # say no more than differs
            part = next(key for key in first | second if first.get(key) != second.get(key))
            name, first, second = f"{name}.{part}", first.get(part), second.get(part)
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

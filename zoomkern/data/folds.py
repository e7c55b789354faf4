"""Folds and hold-outs: which images are for training, which for test."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks


def stratified_folds(labels: Sequence[int], num_folds: int, seed: int) -> list[Tensor]:
    """Folds of equal size, each with its share of every class, to within one image.

    Args:
        labels: class of every image.
        num_folds: how many, at least 2.
        seed: of the shuffle.

    Returns:
        Indices of every fold's own images, int64 and rising; each image is in one fold. Train on the others.

    Raises:
        ValueError: a class has fewer images than there are folds.
        ImportError: scikit-learn is not installed.

    Example:
        >>> [len(fold) for fold in stratified_folds([0, 0, 0, 1, 1, 1], 3, seed=0)]
        [2, 2, 2]
    """
    _check(num_folds, seed)
    _enough(Counter(labels), num_folds, "images")
    splitter = _sklearn().StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    return [torch.from_numpy(fold) for _, fold in splitter.split(np.zeros(len(labels)), labels)]


def grouped_folds(labels: Sequence[int], groups: Sequence[Hashable], num_folds: int, seed: int) -> list[Tensor]:
    """Folds that keep every group in one piece, with classes as even as that allows.

    Args:
        labels: class of every image.
        groups: what must not be divided (a patient, a drive), of every image.
        num_folds: how many, at least 2.
        seed: of the shuffle.

    Returns:
        As :func:`stratified_folds`; folds may be of different sizes.

    Raises:
        ValueError: a class occurs in fewer groups than there are folds, or a fold would be empty.
        ImportError: scikit-learn is not installed.
    """
    _check(num_folds, seed)
    _same_length(labels, groups)
    _enough(Counter(label for label, _ in set(zip(labels, groups, strict=True))), num_folds, "groups")
    numbers = _numbered(groups)
    splitter = _sklearn().StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    folds = [torch.from_numpy(fold) for _, fold in splitter.split(np.zeros(len(labels)), labels, numbers)]
    if any(len(fold) == 0 for fold in folds):
        raise ValueError(f"num_folds must leave no fold empty; {num_folds} do for these groups. Take fewer.")
    return folds


def fixed_folds(names: Sequence[str], path: str | os.PathLike[str]) -> list[Tensor]:
    """Folds that a file fixes, so that others can use the same.

    Args:
        names: name of every image, in the order of the set.
        path: JSON, ``{"name": 0, ...}``, or CSV with the columns ``name`` and ``fold``. Folds are numbered without a
            gap, from 0 or 1 on.

    Returns:
        As :func:`stratified_folds`, in the order of their numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, names other images than ``names``, or leaves a gap between folds.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path must name a file of folds; there is none at {str(file)!r}. Check it.")
    number_of = _read_json(file) if file.suffix.lower() == ".json" else _read_csv(file)
    for name in names:
        if name not in number_of:
            raise ValueError(f"{str(file)!r} has no fold for {name!r}. Is it of another set?")
    unknown = number_of.keys() - set(names)
    if unknown:
        raise ValueError(f"{str(file)!r} has a fold for {min(unknown)!r}, which the set does not have.")
    folds = sorted(set(number_of.values()))
    if len(folds) < 2 or folds[0] not in (0, 1) or folds != list(range(folds[0], folds[0] + len(folds))):
        raise ValueError(f"{str(file)!r} must number its folds from 0 or 1 without a gap; it has {folds}.")
    numbers = torch.tensor([number_of[name] for name in names])
    return [(numbers == fold).nonzero().flatten() for fold in folds]


def holdout(
    labels: Sequence[int],
    groups: Sequence[Hashable] | None = None,
    share: float = 0.2,
    seed: int = 0,
    indices: Sequence[int] | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Training and validation parts, with every class in both as near to its share as whole groups allow.

    Groups go to validation, the larger first and in random order otherwise, whenever that brings the validation part's
    class counts ``v`` nearer to ``share * n`` in ``|v - share n|^2``. Where each image is a group of its own, every
    class is within half an image of its share.

    Args:
        labels: class of every image of the set.
        groups: what must not be divided, of every image of the set; None divides image by image.
        share: of the images for validation, between 0 and 1.
        seed: of the shuffle.
        indices: the images to divide, such as all but a fold's; None divides all.

    Returns:
        Indices for training and for validation, int64 and rising.

    Raises:
        ValueError: a part would be empty, or an argument does not fit.

    Example:
        >>> training, validation = holdout([0] * 10 + [1] * 20, share=0.2)
        >>> len(training), len(validation)
        (24, 6)
    """
    checks.integer("seed", seed, 0, (1 << 32) - 1)
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1; got {share}. Try 0.2.")
    own = np.arange(len(labels)) if indices is None else np.asarray(indices, dtype=np.int64)
    if len(own) and not (own.min() >= 0 and own.max() < len(labels)):
        raise ValueError(f"indices must lie below {len(labels)}, the number of labels; got {own.min()} to {own.max()}.")
    if len(set(own.tolist())) != len(own):
        raise ValueError("indices must be different; some occur twice.")
    if groups is not None:
        _same_length(labels, groups)
    own.sort()
    classes = _numbered([labels[i] for i in own])
    members = _numbered([groups[i] for i in own]) if groups is not None else np.arange(len(own))
    counts = np.zeros((len(set(members.tolist())), int(classes.max(initial=-1)) + 1))
    np.add.at(counts, (members, classes), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    short = share * counts.sum(0)  # what validation lacks of every class
    chosen = []
    for group in order:
        if ((short - counts[group]) ** 2).sum() < (short**2).sum():
            chosen.append(group)
            short -= counts[group]
    is_validation = np.isin(members, chosen)
    if is_validation.all() or not is_validation.any():
        raise ValueError(
            f"share must leave images in both parts; {share} of {len(own)} images in {len(counts)} groups does not. "
            "Change it, or pass more images."
        )
    return torch.from_numpy(own[~is_validation]), torch.from_numpy(own[is_validation])


def _sklearn() -> ModuleType:
    try:
        from sklearn import model_selection
    except ImportError as error:
        raise ImportError("Folds need scikit-learn: pip install 'zoomkern[data]'") from error
    return model_selection


def _check(num_folds: int, seed: int) -> None:
    checks.integer("num_folds", num_folds, 2)
    checks.integer("seed", seed, 0, (1 << 32) - 1)  # what scikit-learn takes


def _enough(number_of: Counter[Any], num_folds: int, what: str) -> None:
    if not number_of:
        raise ValueError("labels must not be empty.")
    label, number = min(number_of.items(), key=lambda item: item[1])
    if number < num_folds:
        raise ValueError(
            f"num_folds must be at most {number}, the {what} of class {label}; got {num_folds}. Take fewer folds."
        )


def _same_length(labels: Sequence[int], groups: Sequence[Hashable]) -> None:
    if len(groups) != len(labels):
        raise ValueError(f"groups must be as many as labels; got {len(groups)} and {len(labels)}.")


def _numbered(values: Sequence[Hashable]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Every value's number, in the order of their first occurrence."""
    number_of = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([number_of[value] for value in values], dtype=np.int64)


def _read_json(path: Path) -> dict[str, int]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return _distinct(items, path)

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=pairs)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}. Mend it.") from error
    if not isinstance(content, dict) or not all(type(fold) is int for fold in content.values()):
        raise ValueError(f'{str(path)!r} must be {{"name": fold, ...}} with whole numbers. Mend it.')
    return content


def _read_csv(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            items = [(row["name"], int(row["fold"])) for row in csv.DictReader(file, strict=True)]
    except (UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} must have the columns name and fold, a whole number: {error!r}.") from error
    return _distinct(items, path)


def _distinct(items: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    result = dict(items)
    if len(result) != len(items):
        twice = next(name for name, times in Counter(name for name, _ in items).items() if times > 1)
        raise ValueError(f"{str(path)!r} has {twice!r} twice. Remove one.")
    return result

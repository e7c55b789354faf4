"""MNIST's own files: idx arrays of bytes, plain or compressed."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoomkern import checks
from zoomkern.data.files import require_file, require_folder

#: Side of a digit, in pixels.
DIGIT_SIDE = 28
NUM_DIGITS = 10

_BYTES = 0x08  # the type code of unsigned bytes, the only one that MNIST uses
_MOST = 1 << 31  # bytes that a header may promise


class Digits(NamedTuple):
    """Handwritten digits.

    Args:
        images: ``[M, 28, 28]`` uint8, bright ink on black.
        labels: ``[M]`` uint8, the digit that each one shows.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes.

    Args:
        path: the file; a name that ends in ``.gz`` is decompressed.

    Returns:
        The array, in the shape that the file's header tells.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be decompressed, or ends too early.
        ValueError: the file is not in idx format, holds no unsigned bytes or too many, or goes on after its array.

    Source:
        http://yann.lecun.com/exdb/mnist/ describes the format: two zero bytes, the type, the number of dimensions,
        each dimension as a big-endian 32-bit integer, then the elements in C order.
    """
    path = require_file(Path(path))
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _BYTES:
                raise ValueError(
                    f"{path} must be an idx file of unsigned bytes, which begins 00 00 08; it begins "
                    f"{magic[:3].hex(' ') or 'with nothing'}. Download it again."
                )
            head = file.read(4 * magic[3])
            if len(head) < 4 * magic[3]:
                raise OSError(f"{path} is truncated: it must give {magic[3]} dimensions. Download it again.")
            shape = np.frombuffer(head, ">u4").tolist()
            needed = math.prod(shape)
            if needed > _MOST:
                raise ValueError(f"{path} must hold at most {_MOST} bytes; it promises {needed}. Download it again.")
            data = file.read(needed + 1)  # one more, to see whether it goes on
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} cannot be decompressed: {error}. Download it again.") from error
    if len(data) < needed:
        raise OSError(f"{path} is truncated: it must hold {needed} bytes of data. Download it again.")
    if len(data) > needed:
        raise ValueError(f"{path} goes on after the {needed} bytes that its header promises. Download it again.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def load_mnist(root: str | os.PathLike[str], split: str) -> Digits:
    """The digits of a split.

    With all of MNIST in ``root``, "train" is its 60,000 training digits and "test" its 10,000 test digits. With only
    the test digits (``t10k-*``) there, "train" is their first four fifths (8,000) and "test" the rest (2,000). Either
    way the splits share no digit, but these are two different sets: say which one a result is from.

    Args:
        root: folder with ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, and the same for ``train`` where
            present, each plain or with the ending ``.gz``.
        split: "train" or "test".

    Returns:
        Images and labels, read-only.

    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file is truncated.
        ValueError: a file is no idx file, or the files do not belong together.

    Example:
        >>> load_mnist("data/mnist", "test").images.shape
        (2000, 28, 28)
    """
    checks.choice("split", split, ("train", "test"))
    folder = require_folder(root, "MNIST's idx files")
    whole = _find(folder, "train-images-idx3-ubyte") is not None
    part = "train" if whole and split == "train" else "t10k"
    images, labels = (_read(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if images.ndim != 3 or images.shape[1:] != (DIGIT_SIDE, DIGIT_SIDE) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: {part}-images and {part}-labels must be [M, {DIGIT_SIDE}, {DIGIT_SIDE}] and [M]; "
            f"got {list(images.shape)} and {list(labels.shape)}. Download both again."
        )
    if not whole:
        cut = len(labels) * 4 // 5
        chosen = slice(cut) if split == "train" else slice(cut, None)
        images, labels = images[chosen], labels[chosen]
    missing = sorted(set(range(NUM_DIGITS)) ^ set(labels.tolist()))
    if missing:
        raise ValueError(
            f"{folder}: the labels of {part} must be all of the digits 0 to 9 and nothing else; {missing[0]} "
            f"{'is missing' if missing[0] < NUM_DIGITS else 'occurs'}. Download the file again."
        )
    return Digits(images, labels)


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def _read(folder: Path, stem: str) -> NDArray[np.uint8]:
    path = _find(folder, stem)
    if path is None:
        raise FileNotFoundError(f"there is no file {str(folder / stem)!r}, nor one with .gz. Put MNIST's files there.")
    return read_idx(path)

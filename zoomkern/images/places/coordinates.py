"""Places that CLAM or TRIDENT found, from their files of coordinates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.places.grid import MOST_PLACES


class Places(NamedTuple):
    """Windows of one size on a slide, in pixels of level 0.

    Args:
        locations: int64 ``[L, 2]``, top-left ``(y, x)``.
        extent: ``(height, width)`` that each spans.
    """

    locations: Tensor
    extent: tuple[int, int]


def read_coordinates(path: str | os.PathLike[str], *, extent: int | tuple[int, int] | None = None) -> Places:
    """The places in an HDF5 file of CLAM or TRIDENT, whose data set ``coords`` is ``[L, 2]`` of ``(x, y)`` at level 0.

    What a patch spans at level 0 is TRIDENT's ``patch_size_level0``, or CLAM's ``patch_size`` times its ``downsample``,
    rounded.

    Args:
        path: the file; of features too, where the coordinates are beside them.
        extent: ``(height, width)`` in pixels of level 0, or one int, where the file does not say.

    Returns:
        ``Places(locations, extent)``. Of level 0 they are read by ``gather_patches([slide], locations[None],
        extent)``; of a level of downsample ``d`` divide both by ``d``.

    Raises:
        ImportError: h5py is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is truncated or no HDF5, has no such ``coords``, or they are floats, negative or none.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "Reading coordinates needs h5py: pip install 'zoomkern[slides]', or pip install h5py"
        ) from error
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path must name an HDF5 file; got {str(file)!r}, which is none. Check the path.")
    name = repr(str(file))
    try:
        with h5py.File(file, "r") as content:
            coords = content.get("coords")
            if not isinstance(coords, h5py.Dataset):
                raise ValueError(
                    f"{name} must have a data set coords; it has {sorted(content)}. Pass a file of patches."
                )
            _check_kind(name, coords.shape, coords.dtype)
            attributes = dict(coords.attrs)
            places = coords[()]
    except (OSError, RuntimeError, KeyError) as error:  # what h5py makes of damaged files
        raise ValueError(
            f"{name} must be a whole HDF5 file; reading it failed: {error}. Copy or make it again."
        ) from error
    low, high = int(places.min()), int(places.max())
    if low < 0 or high > checks.MOST_PIXELS:
        raise ValueError(
            f"{name} must have coords from 0 to {checks.MOST_PIXELS}; got {low} to {high}. Make them again, at level 0."
        )
    spanned = _extent(name, attributes) if extent is None else checks.pair("extent", extent)
    return Places(torch.from_numpy(places.astype(np.int64)[:, ::-1].copy()), spanned)


def _check_kind(name: str, shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> None:
    if shape is None or len(shape) != 2 or shape[1] != 2 or not 0 < shape[0] <= MOST_PLACES:
        raise ValueError(f"{name} must have coords [L, 2], an (x, y) per patch; got {shape}. Make patches again.")
    if dtype.kind not in "iu":
        raise ValueError(f"{name} must have whole numbers as coords; got {dtype}. Convert them where they are exact.")


def _extent(name: str, attributes: Mapping[str, Any]) -> tuple[int, int]:
    """``(height, width)`` at level 0 that the attributes tell."""
    size = attributes.get("patch_size_level0")
    factor: Any = 1
    if size is None:
        size = attributes.get("patch_size")
        factor = attributes.get("downsample", 1 if attributes.get("patch_level", 0) == 0 else None)
    try:
        width, height = (_two(size) * _two(factor)).round()
        return checks.integer("height", int(height), 1), checks.integer("width", int(width), 1)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} must say what a patch spans at level 0, as patch_size_level0 or patch_size and downsample; "
            f"coords has {attributes}. Pass extent=."
        ) from error


def _two(value: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One number or an ``(x, y)`` of them."""
    return np.broadcast_to(np.asarray(value, dtype=np.float64), 2)

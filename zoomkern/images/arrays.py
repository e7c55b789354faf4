"""NumPy arrays as ``[C, H, W]`` images: their layouts, types and copies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

_LAYOUTS = {"HWC": (2, 0, 1), "CHW": (0, 1, 2), "HW": (0, 1)}

_TORCH_DTYPES = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.uint16): torch.uint16,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}

#: Bytes that one thread copies at a time, about.
_BAND_BYTES = 1 << 22


def torch_dtype(dtype: np.dtype[Any], name: str) -> torch.dtype:
    """The pixel type of a NumPy type in either byte order; ``name`` is the argument that an error names.

    Raises:
        TypeError: Images do not come in this type.
    """
    found = _TORCH_DTYPES.get(dtype.newbyteorder("="))
    if found is None:
        known = ", ".join(str(known) for known in _TORCH_DTYPES)
        raise TypeError(f"{name} must be one of {known}; got {dtype}. Convert it with .astype(numpy.float32).")
    return found


def as_planes(array: np.ndarray[Any, Any], layout: str) -> np.ndarray[Any, Any]:
    """The array's ``[C, H, W]`` view.

    Raises:
        ValueError: The layout is unknown or does not suit the array's dimensions, or the array is empty.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout must be 'HWC', 'CHW' or 'HW'; got {layout!r}. Name the order of the dimensions.")
    if array.ndim != len(layout):
        cure = "Pass layout='HW' for a picture without a channel dimension" if array.ndim == 2 else "Reshape it"
        raise ValueError(f"array must have the dimensions {layout}; got shape {array.shape}. {cure}.")
    if array.size == 0:
        raise ValueError(f"array must hold at least one pixel; got shape {array.shape}. Leave empty images out.")
    planes = array.transpose(_LAYOUTS[layout])
    return planes[None] if layout == "HW" else planes


def copy_rows(source: np.ndarray[Any, Any], target: Tensor) -> None:
    """Copies ``[C, H, W]`` pixels of any strides and byte order into a tensor, in bands over torch's threads."""
    destination = target.numpy()
    height = source.shape[1]
    rows = max(1, _BAND_BYTES * height // source.nbytes)

    def copy(top: int) -> None:
        np.copyto(destination[:, top : top + rows], source[:, top : top + rows], casting="equiv")

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(copy, range(0, height, rows)):
            pass

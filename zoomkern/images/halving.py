"""An image halved by averaging two by two pixels, in bands of rows over a pool of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from torch import Tensor

#: Pixels of the smaller image that one thread computes at a time, about: its sums stay in the processor's cache.
_BAND_PIXELS = 1 << 17


def halve(image: Tensor, target: Tensor, pool: Executor, done: Callable[[int], None]) -> None:
    """Writes to each pixel of ``target`` the mean of the two by two pixels of ``image`` that it covers.

    Where the image has an odd last row or column, the last pixels of ``target`` are the means of those that are there.
    Integers are rounded to nearest, halves to even, which does not drift over levels; float16 and bfloat16 are averaged
    in float32, float32 in float64.

    Args:
        image: ``[C, H, W]`` in CPU memory.
        target: ``[C, ceil(H / 2), ceil(W / 2)]`` of the same type; may not overlap ``image``.
        pool: Runs the bands.
        done: Called with the number of ``target`` rows after each band, in the calling thread.

    Memory:
        A few MiB per thread, whatever the size of the image.
    """
    height, width = target.shape[1:]
    rows = max(1, _BAND_PIXELS // width)

    def band(top: int) -> int:
        bottom = min(top + rows, height)
        for channel in range(image.shape[0]):
            pixels = _as_numpy(image[channel, 2 * top : 2 * bottom])
            mean = mean_of_four(pixels)
            with torch.inference_mode(target.is_inference()):  # the mode of the thread that made it
                target[channel, top:bottom].copy_(torch.from_numpy(mean))
        return bottom - top

    for count in pool.map(band, range(0, height, rows)):
        done(count)


def _as_numpy(pixels: Tensor) -> np.ndarray[Any, Any]:
    return (pixels.float() if pixels.dtype == torch.bfloat16 else pixels).numpy()


def mean_of_four(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``[h, w]`` to ``[ceil(h / 2), ceil(w / 2)]``; a missing neighbour takes its pair's value."""
    if pixels.dtype.kind == "u":
        wide: type[np.generic] = np.uint16 if pixels.itemsize == 1 else np.uint32
        total = _pair_sums(_pair_sums(pixels, 0, wide), 1, wide)
        odd = (total >> 2) & 1
        total += odd
        total += 1
        total >>= 2
        return total.astype(pixels.dtype)
    wide_float: type[np.generic] = np.float32 if pixels.itemsize == 2 else np.float64
    quarters = pixels.astype(wide_float)
    quarters *= 0.25  # before the sum, so that the largest numbers do not overflow
    total = _pair_sums(_pair_sums(quarters, 0, wide_float), 1, wide_float)
    return total.astype(pixels.dtype, copy=False)


def _pair_sums(values: np.ndarray[Any, Any], axis: int, dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    values = np.moveaxis(values, axis, 0)
    pairs = len(values) // 2
    sums = np.empty((len(values) - pairs, *values.shape[1:]), dtype)
    np.add(values[0 : 2 * pairs : 2], values[1 : 2 * pairs : 2], out=sums[:pairs], dtype=dtype)
    if len(values) % 2:
        np.add(values[-1], values[-1], out=sums[-1], dtype=dtype)
    return np.moveaxis(sums, 0, axis)

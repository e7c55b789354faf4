"""Many small pictures joined into a large one along seams that are hard to see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_SOFT = 2.0  # pixels either side of a seam over which two pictures fade into each other


def quilt(tiles: Pixels, overlap: int) -> Pixels:
    """Tiles joined where they differ least.

    Neighbours share a band of ``overlap`` pixels, and through each band runs the path of least
    ``sum |upper - lower|``, found by dynamic programming; at most one pixel sideways per pixel along. First tiles are
    joined into rows, then rows into the picture, all bands of a kind at once.

    Args:
        tiles: ``[R, Q, S, S, C]``, ``R`` rows of ``Q`` tiles.
        overlap: width of the bands in pixels, less than ``S / 2``.

    Returns:
        ``[R * (S - overlap) + overlap, Q * (S - overlap) + overlap, C]``.

    Memory:
        Besides the tiles and the result, the rows, and 4 bytes for each pixel of a band.

    Source:
        Efros & Freeman, Image Quilting for Texture Synthesis and Transfer, SIGGRAPH 2001, section 2.1.
    """
    rows, columns, side, _, channels = tiles.shape
    height, width = (number * (side - overlap) + overlap for number in (rows, columns))
    strips = np.empty((rows, side, width, channels), np.uint8)
    _join(tiles.swapaxes(2, 3), overlap, strips.swapaxes(1, 2))
    picture = np.empty((height, width, channels), np.uint8)
    _join(strips[None], overlap, picture[None])
    return picture


def _join(pieces: Pixels, overlap: int, joined: Pixels) -> None:
    """``[N, K, S, L, C]``, where piece ``k + 1`` continues piece ``k`` along ``S``, into ``joined [N, S', L, C]``."""
    number, side = pieces.shape[1:3]
    step = side - overlap
    joined[:, :overlap] = pieces[:, 0, :overlap]
    for k in range(number):
        joined[:, k * step + overlap : (k + 1) * step + overlap] = pieces[:, k, overlap:]
    if number > 1:
        first, second = pieces[:, :-1, step:], pieces[:, 1:, :overlap]  # [N, K - 1, v, L, C]
        place = np.arange(overlap, dtype=np.float32)[:, None]
        seam = _seams(first, second)[:, :, None]
        share = np.rint(np.clip((place - seam) / (2 * _SOFT) + 0.5, 0, 1) * 256).astype(np.uint16)  # of the second
        for k in range(number - 1):
            band = first[:, k] * (256 - share[:, k, ..., None]) + second[:, k] * share[:, k, ..., None]
            joined[:, (k + 1) * step : (k + 1) * step + overlap] = (band + 128) >> 8


def _seams(first: Pixels, second: Pixels) -> NDArray[np.int64]:
    """Of two pictures of each band, ``[N, K, v, L, C]``, where along ``v`` the second takes over, ``[N, K, L]``."""
    count, number, width, length, _ = first.shape
    apart = np.maximum(first, second) - np.minimum(first, second)
    cost = np.full((length, count * number, width + 2), np.iinfo(np.int32).max // 2, np.int32)  # a wall on either side
    cost[..., 1:-1] = apart.sum(-1, dtype=np.uint16).transpose(3, 0, 1, 2).reshape(length, -1, width)
    for before, here in zip(cost[:-1], cost[1:], strict=True):  # becomes the least cost of any path that ends here
        here[:, 1:-1] += np.minimum(np.minimum(before[:, :-2], before[:, 1:-1]), before[:, 2:])
    path = np.empty((length, count * number), np.int64)
    path[-1] = cost[-1].argmin(1)
    lines = np.arange(count * number)[:, None]
    ways = np.array([0, -1, 1])  # straight on where all are equal
    for at in range(length - 2, -1, -1):
        path[at] = path[at + 1] + ways[cost[at][lines, path[at + 1][:, None] + ways].argmin(1)]
    return (path - 1).T.reshape(count, number, length)

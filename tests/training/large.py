"""Images of any size on disk that are quick to write: flat tiles, and noise in a few of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

TILE = 512


def save_large(path: Path, side: int, smallest: int = 1024, every: int = 997) -> Path:
    """A deflated pyramid of ``side`` x ``side`` RGB pixels, halved down to ``smallest``."""
    sides = [side]
    while sides[-1] > smallest:
        sides.append(-(-sides[-1] // 2))
    flat = zlib.compress(np.full((TILE, TILE, 3), 200, np.uint8).tobytes(), 1)
    noise = zlib.compress(np.random.default_rng(0).integers(0, 256, (TILE, TILE, 3), np.uint8).tobytes(), 1)

    def tiles(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield flat if number % every else noise

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level, pixels in enumerate(sides):
            file.write(
                tiles((-(-pixels // TILE)) ** 2),
                shape=(pixels, pixels, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="adobe_deflate",
                photometric="rgb",
                subifds=len(sides) - 1 if level == 0 else 0,
                subfiletype=int(level > 0),
            )
    return path

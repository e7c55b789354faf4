"""Images of any size on disk that are quick to write: flat tiles, and noise in a few of them."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from zoomkern.models import ZoomIn
from zoomkern.nn import AttentionNetwork, LeNet
from zoomkern.training.weights import save_weights

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

    path.parent.mkdir(parents=True, exist_ok=True)
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


#: A recipe's network and views.
RECIPE = """\
model:
  num_classes: 2
  model:
    class_path: zoomkern.models.ZoomIn
    init_args:
      num_classes: 2
      num_samples: 10
      patch_size: [256, 256]
      tile_size: [2048, 2048]
      tile_scale: 0.125
      attention: {class_path: zoomkern.nn.AttentionNetwork, init_args: {in_channels: 3, pool: 4}}
      tile_attention: {class_path: zoomkern.nn.AttentionNetwork, init_args: {in_channels: 3, pool: 4}}
      features: {class_path: zoomkern.nn.LeNet, init_args: {batch_norm: true}}
    dict_kwargs: {mean: [0.75, 0.6, 0.72], std: [0.2, 0.22, 0.17], fill: 190, padding_mode: shift}
data:
  view_size: [1024, 1024]
  tile_scale: 0.125
"""


def save_large_run(folder: Path) -> Path:
    """A network of two stages for huge images; it was not trained."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(RECIPE)
    networks = {"attention": AttentionNetwork(3, pool=4), "tile_attention": AttentionNetwork(3, pool=4)}
    model = ZoomIn(2, 10, (256, 256), (2048, 2048), tile_scale=0.125, features=LeNet(batch_norm=True), **networks)
    save_weights(folder / "weights.safetensors", model)
    return folder


if __name__ == "__main__":  # large.py FOLDER SIDE
    save_large_run(Path(sys.argv[1]) / "run")
    save_large(Path(sys.argv[1]) / "slides" / f"{sys.argv[2]}.tif", int(sys.argv[2]))

"""When tiles are decoded and when a network works on their patches: ``python -m bench.readers.timeline [PNG]``.

One thread decodes ahead while the network, on another, looks at the batch before. The picture shows both; the line that
is printed compares the wall time with the same work one after the other, in the same process.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import zoomkern
from bench.machine import commit, describe
from zoomkern.images import Pyramid
from zoomkern.images.readers import open_image
from zoomkern.images.stored import TiledLevel

SIDE, TILE, PATCH, BATCH, COUNT = 8192, 256, 256, 16, 480

Span = tuple[str, float, float]


def write_slide(path: Path) -> None:
    """Noise over a gradient, as tiles of JPEG, which decode about as slowly as those of tissue."""
    import tifffile

    noise = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE:4, :SIDE:4].astype(np.float32) / SIDE
    small = np.stack([200 - 80 * y, 120 + 60 * x, 180 - 40 * x * y], -1) + noise.normal(0, 18, (*y.shape, 3))
    image = small.clip(0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    tifffile.imwrite(path, image, tile=(TILE, TILE), compression="jpeg", photometric="rgb")


class Clock:
    """Spans of time by what was done, from any thread."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, noting when it ran."""

        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                with self._lock:
                    self.spans.append((name, began, time.perf_counter()))

        return call

    def busy(self, name: str) -> float:
        """Seconds of all spans of that name."""
        return sum(end - begin for kind, begin, end in self.spans if kind == name)


def look(path: Path, ahead: bool) -> tuple[Clock, float, torch.Tensor]:
    """All patches through the network; the spans, the seconds, and the features."""
    pyramid = Pyramid.open(open_image(path), where="disk")
    level = pyramid.levels[0]
    assert isinstance(level, TiledLevel)
    clock = Clock()
    level._decoded = clock.timed("decode", level._decoded)  # type: ignore[method-assign]
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 32, 8, 8), nn.ReLU(), nn.Conv2d(32, 48, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = clock.timed("network", nn.Sequential(*layers))  # about as slow as decoding, where overlap matters most
    places = torch.randint(0, SIDE - PATCH, (1, COUNT, 2), generator=torch.Generator().manual_seed(1))
    reading = {"mean": 0.5, "std": 0.5}
    began = time.perf_counter()
    with torch.no_grad():
        if ahead:
            features = [network(some) for some in zoomkern.patch_batches([pyramid], places, PATCH, BATCH, **reading)]
        else:
            parts = places.split(BATCH, 1)
            features = [network(zoomkern.gather_patches([pyramid], some, PATCH, **reading)[0]) for some in parts]
    return clock, time.perf_counter() - began, torch.cat(features)


def draw(clock: Clock, path: Path, seconds: float, apart: float) -> None:
    """A row for each kind of work, a bar for each span."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    start = min(begin for _, begin, _ in clock.spans)
    figure, axes = pyplot.subplots(figsize=(9, 2.2), layout="constrained")
    for row, (name, colour) in enumerate([("network", "#c23b22"), ("decode", "#2a6f97")]):
        bars = [(begin - start, end - begin) for kind, begin, end in clock.spans if kind == name]
        axes.broken_barh(bars, (row - 0.38, 0.76), facecolors=colour, linewidth=0)
    axes.set_yticks([0, 1], ["network", "decoding"])
    axes.set_xlabel("seconds")
    axes.set_title(
        f"{COUNT} patches of {PATCH} x {PATCH}: {seconds:.2f} s, one after the other {apart:.2f} s", fontsize=10
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, draw."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.tif"
        write_slide(slide)
        look(slide, ahead=True)
        apart = [look(slide, ahead=False) for _ in range(3)]
        together = [look(slide, ahead=True) for _ in range(3)]
    assert torch.equal(apart[0][2], together[0][2])
    one, other = (min(runs, key=lambda run: run[1]) for runs in (apart, together))
    decode, network = other[0].busy("decode"), other[0].busy("network")
    print(describe(), *commit())
    print(f"one after the other {one[1]:.2f} s, ahead {other[1]:.2f} s: {one[1] / other[1]:.2f}x")
    print(f"in the latter {decode:.2f} s of decoding (all threads) beside {network:.2f} s of the network")
    if len(sys.argv) > 1:
        draw(other[0], Path(sys.argv[1]), other[1], one[1])


if __name__ == "__main__":
    main()

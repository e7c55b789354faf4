"""The example of docs/slides.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest


def test_the_example_runs(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (800, 1200, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", pixels, tile=(256, 256), photometric="rgb")
    page = (Path(__file__).parents[3] / "docs" / "slides.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], names)
    assert names["out"].scores.shape == (1, 2)
    assert names["patches"].shape[1:] == (3, 256, 256)

"""The example of docs/places.md runs as it stands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "places.md"


def test_the_example_runs(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    y, x = np.mgrid[:2048, :3072]
    tissue = (y - 1000) ** 2 + (x - 1500) ** 2 < 700**2
    slide = np.where(tissue[..., None], (214, 120, 178), (243, 242, 244)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        options = {"tile": (256, 256), "photometric": "rgb"}
        file.write(slide, subifds=1, **options)
        file.write(slide[::4, ::4], subfiletype=1, **options)
    ring = [[1500, 0], [3072, 0], [3072, 2048], [1500, 2048], [1500, 0]]
    artifact = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Artifact"}},
    }
    (tmp_path / "drawn.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [artifact]}))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}

    exec(compile(example, str(PAGE), "exec"), names)

    assert len(json.loads((tmp_path / "patches.geojson").read_text())["features"]) == 10
    tissue[:, 1500:] = False
    for y, x in names["drawn"].offsets[0].tolist():
        assert tissue[y : y + 64, x : x + 64].mean() == pytest.approx(
            0.65, abs=0.4
        )  # 0.3 and more, as far as 8 pixels tell
    assert names["patches"].shape == (1, 100, 3, 64, 64)
    assert 100 < len(names["every"]) < 200

"""The needle study's points are those of its results."""

import json
import shutil

import pytest

from recipes.needles import STUDIES, lines

RECIPE = """
data:
  images: {init_args: {size: 64, object_side: 14, length: 8000}}
  test: {init_args: {size: 64, object_side: 14, length: 100}}
"""


@pytest.fixture
def results(tmp_path):
    """Two seeds of a network at the recipe's size, one at half of it with fewer canvases; and one at 48 pixels."""
    small = ["--data.test.init_args.size=32", "--data.images.init_args.size=32", "--data.images.init_args.length=500"]
    for name, options, shares in (("net-064", [], (0.9, 0.7)), ("net-032", small, (0.95,))):
        for study in STUDIES:
            folder = tmp_path / study / name
            (folder / "folds").mkdir(parents=True)
            (folder / "configuration.json").write_text(json.dumps({"options": options, "files": {"r.yaml": RECIPE}}))
            for i, share in enumerate(shares):
                fold = {"accuracy": share, "probabilities": [[0.5, 0.5]] * 100}
                (folder / "folds" / f"{i}.json").write_text(json.dumps(fold))
    shutil.copytree(tmp_path / "needle-ratio" / "net-064", tmp_path / "needle-ratio" / "other-048")
    return tmp_path


def test_a_point_is_the_mean_over_seeds_with_two_standard_errors(results):
    small, large = lines("needle-ratio", results)["net"]
    assert small.x == pytest.approx(100 * 14**2 / 32**2)
    assert large.x == pytest.approx(100 * 14**2 / 64**2)
    assert (large.y, large.low, large.high) == pytest.approx((80, 60, 100))  # stdev of .9 and .7 over sqrt(2) is .1
    error = 200 * (0.95 * 0.05 / 100) ** 0.5  # of a share of 100 canvases
    assert (small.y, small.low, small.high) == pytest.approx((95, 95 - error, 95 + error))


def test_the_other_picture_counts_canvases(results):
    found = lines("needle-length", results)
    assert {name: [point.x for point in points] for name, points in found.items()} == {
        "net": [500, 8000],
        "other": [8000],
    }

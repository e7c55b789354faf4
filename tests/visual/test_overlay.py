"""The overlay of an image, its scale bar, and the sheet of patches."""

import math

import numpy as np
import pytest
import torch

from zoomkern.visual import Tiles, save_overlay, save_sheet
from zoomkern.visual.scale_bar import bar_label, bar_length

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def arguments(**changes):
    given = {
        "overview": torch.zeros(3, 150, 200),
        "attention": torch.zeros(6, 8),
        "offsets": torch.tensor([[20, 30]]),
        "patch_size": (40, 40),
        "image_size": (300, 400),
        "title": "a title",
    }
    return {**given, **changes}


@pytest.mark.parametrize(
    ("width", "length"), [(400, 100), (399, 50), (200, 50), (80, 20), (4, 1), (3.9, 0.5), (1e6, 2e5), (100000, 20000)]
)
def test_the_bar_has_a_round_length_of_at_most_a_quarter(width, length):
    assert math.isclose(bar_length(width), length)


@pytest.mark.parametrize(
    ("length", "microns", "label"),
    [
        (20000, False, "20,000 pixels"),
        (0.5, False, "0.5 pixels"),
        (500, True, "500 µm"),
        (2000, True, "2 mm"),
        (50000, True, "5 cm"),
        (0.2, True, "200 nm"),
    ],
)
def test_labels_of_the_bar(length, microns, label):
    assert bar_label(length, microns) == label


def test_the_bar_is_as_long_as_it_says(tmp_path):
    """100 of 400 pixels; 50 microns at half a micron per pixel are the same length."""
    lengths = []
    for name, mpp in (("pixels", None), ("microns", 0.5), ("coarse", 1000.0)):
        save_overlay(tmp_path / f"{name}.png", **arguments(mpp=mpp, offsets=torch.zeros(0, 2, dtype=torch.int64)))
        picture = pixels(tmp_path / f"{name}.png")
        below = picture[-60:, : picture.shape[1] // 2].sum(2) > 600
        lengths.append(int(np.diff(np.flatnonzero(np.diff(below[below.sum(1).argmax()].astype(int)))[:2])[0]))
    panel = 6.5 * 110  # inches and dots per inch
    assert lengths == pytest.approx([panel / 4] * 3, abs=2)


def test_attention_is_hot_where_it_lies(tmp_path):
    attention = torch.zeros(6, 8)
    attention[1, 6] = 1
    save_overlay(tmp_path / "hot.png", **arguments(attention=attention))
    save_overlay(tmp_path / "cold.png", **arguments())
    changed = np.abs(pixels(tmp_path / "hot.png") - pixels(tmp_path / "cold.png")).sum(2) > 100
    height, width = changed.shape
    rows, columns = np.nonzero(changed[160:, width // 2 :])
    assert columns.min() > 0.7 * width / 2
    assert rows.max() < 0.45 * (height - 160)


def test_without_an_attention_the_image_stands_alone(tmp_path):
    save_overlay(tmp_path / "p.png", **arguments(attention=None))
    save_overlay(tmp_path / "plain.png", **arguments())
    assert (pixels(tmp_path / "p.png") != pixels(tmp_path / "plain.png")).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "plain.png"]


def tiles(**changes):
    given = Tiles(
        offsets=torch.tensor([[0, 0], [99, 9]]),
        size=(80, 80),
        views=torch.zeros(2, 3, 20, 20),
        attention=torch.full((2, 4, 4), 1 / 16),
        probabilities=torch.tensor([0.5, 0.25]),
        parents=torch.tensor([0]),
    )
    return given._replace(**changes)


def test_below_two_stages_stand_the_tiles_with_the_attention_inside_each(tmp_path):
    save_overlay(tmp_path / "one.png", **arguments())
    one, both = pixels(tmp_path / "one.png"), {}
    peak = torch.zeros(2, 4, 4)
    peak[:, 0, 0] = 1
    for name, drawn in (
        ("even", tiles()),
        ("peak", tiles(attention=peak)),
        ("bright", tiles(views=torch.ones(2, 3, 20, 20))),
        ("not shown", tiles(parents=torch.tensor([-1]))),
    ):
        save_overlay(tmp_path / "two.png", **arguments(tiles=drawn))
        both[name] = pixels(tmp_path / "two.png")
    above = one.shape[0] - 40
    assert both["even"].shape[0] > one.shape[0] + 200
    for name in ("peak", "bright", "not shown"):
        changed = np.nonzero(np.abs(both[name] - both["even"]).sum(2) > 100)[0]
        assert len(changed) > 50, name
        assert changed.min() > above, name


def test_a_sheet_shows_every_patch(tmp_path):
    patches = torch.rand(13, 3, 16, 16)
    save_sheet(tmp_path / "few.png", patches=patches[:3], labels=["1", "2", "3"], title="t")
    save_sheet(tmp_path / "many.png", patches=patches, labels=[str(i) for i in range(13)], title="t", subtitle="s")
    assert pixels(tmp_path / "few.png").shape[0] < pixels(tmp_path / "many.png").shape[0]

"""Training curves."""

import sys

import numpy as np
import pytest

from zoomkern.visual import curves, save_curves

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

PANELS = {
    "loss": {"train": [(2, 0.3), (0, 0.9), (1, 0.5)], "val": [(0, 0.8), (1, float("nan"))]},
    "accuracy": {"val": []},
}


@pytest.fixture
def figures(monkeypatch):
    kept = []
    monkeypatch.setattr(curves, "write_figure", lambda figure, path, dpi: kept.append(figure))
    return kept


def test_a_png_is_written(tmp_path):
    save_curves(tmp_path / "c.png", PANELS, chosen=1, title="$a_b$ \udcff")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_a_name_has_one_colour_and_the_chosen_epoch_is_marked_everywhere(figures):
    save_curves("c.png", PANELS, chosen=1)
    loss, accuracy = figures[0].axes
    assert (loss.get_ylabel(), accuracy.get_ylabel(), loss.get_xlabel()) == ("loss", "accuracy", "epoch")
    train, val, chosen = loss.lines
    assert train.get_xydata().tolist() == [[0, 0.9], [1, 0.5], [2, 0.3]]
    assert accuracy.lines[0].get_color() == val.get_color() != train.get_color()
    assert accuracy.lines[1].get_xdata() == chosen.get_xdata() == [1, 1]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "val", "chosen: epoch 1"]


def test_many_points_are_a_line_without_marks(figures):
    save_curves("c.png", {"loss": {"few": [(0, 1), (1, 2)], "many": [(i, i) for i in range(100)]}})
    few, many = figures[0].axes[0].lines
    assert (few.get_marker(), many.get_marker()) == ("o", "")


def test_no_panel_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="panels must hold at least one"):
        save_curves(tmp_path / "c.png", {})


def test_without_matplotlib_one_sentence_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pictures need matplotlib: pip install 'zoomkern\[demo\]'"):
        save_curves(tmp_path / "c.png", PANELS)

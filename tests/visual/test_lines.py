"""Lines of studies."""

import numpy as np
import pytest

from zoomkern.visual import Point, lines, save_lines

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

LINES = {
    "one": [Point(1, 93, 88, 96), Point(0.1, 62, 55, 68)],
    "two": [Point(0.1, 51), Point(1, 80)],
}
LABELS = {"x_label": "object / image (%)", "y_label": "accuracy (%)"}


@pytest.fixture
def axes(monkeypatch):
    """Draws and returns the axes."""
    kept = []
    monkeypatch.setattr(lines, "write_figure", lambda figure, path, dpi: kept.append(figure))

    def draw(*args, **options):
        save_lines("l.png", *args, **LABELS, **options)
        kept[-1].canvas.draw()
        return kept[-1].axes[0]

    return draw


def test_a_png_is_written(tmp_path):
    save_lines(tmp_path / "l.png", LINES, **LABELS, title="title", levels={"chance": 50})
    with Image.open(tmp_path / "l.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert [p.name for p in tmp_path.iterdir()] == ["l.png"]


def test_points_and_their_intervals_are_where_they_belong(axes):
    one, two = axes(LINES).containers
    (line, _, (bars,)) = one.lines
    (low, high), others = line.get_xydata(), two.lines[0].get_xydata()
    assert (low[1], high[1]) == (62, 93)
    np.testing.assert_allclose((low[0], high[0]), (0.1, 1), rtol=0.01)  # moved apart by less than is seen
    assert low[0] < others[0][0]
    assert high[0] < others[1][0]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[55, 68], [88, 96]]
    assert not [segment for segment in two.lines[2][0].get_segments() if len(segment) and np.isfinite(segment).all()]


def test_levels_are_named(axes):
    drawn = axes(LINES, levels={"chance": 50})
    assert [text.get_text() for text in drawn.texts] == ["chance"]
    assert [50, 50] in [list(line.get_ydata()) for line in drawn.lines]


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.3), (0.9, 1.1), (0.31, 0.42), (0.2, 3), (0.05, 2), (1e-5, 60)])
def test_at_least_three_ticks_are_named_and_every_point_is_inside(axes, low, high):
    drawn = axes({"a": [Point(low, 1), Point(high, 2)]})
    left, right = drawn.get_xlim()
    assert left < low <= high < right
    named = [tick for tick in drawn.get_xticks() if left <= tick <= right]
    assert 3 <= len(named) <= 12
    assert all("e" not in text.get_text() or low < 1e-4 for text in drawn.get_xticklabels())


def test_a_linear_axis_takes_zero(axes):
    assert axes({"a": [Point(0, 1), Point(4, 2)]}, log_x=False).get_xscale() == "linear"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "lines must hold a point"),
        ({"a": []}, "lines must hold a point"),
        ({"a": [Point(0, 1)]}, "x must be positive and finite; got 0"),
        ({"a": [Point(1, float("nan"))]}, "y must be finite; got nan"),
        ({"a": [Point(1, 2, 3, 4)]}, r"Point 'a' must lie in its interval; got 2 outside of \[3, 4\]"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        save_lines(tmp_path / "l.png", given, **LABELS)
    assert not list(tmp_path.iterdir())


def test_lines_of_one_colour_differ_in_mark_and_dashes(axes):
    drawn = [container.lines[0] for container in axes({f"line {i}": [Point(1, i)] for i in range(18)}).containers]
    styles = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn]
    for place, style in enumerate(styles):
        again = [other for other in styles[place + 1 :] if other[0] == style[0]]
        assert len({style[1], *(other[1] for other in again)}) == 1 + len(again)
        assert len({style[2], *(other[2] for other in again)}) == 1 + len(again)

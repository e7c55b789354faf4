"""Histograms of magnitudes."""

import numpy as np
import pytest

from zoomkern.visual import count_magnitudes, histogram, save_histogram

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def test_every_value_is_counted_once_in_bins_of_equal_ratio():
    values = np.exp(np.random.default_rng(0).normal(size=1000)).tolist()
    counts, edges = count_magnitudes(values)
    assert sum(counts) == 1000
    assert len(edges) == len(counts) + 1 == 21
    assert (edges[0], edges[-1]) == (min(values), max(values))
    np.testing.assert_allclose(np.diff(np.log(edges)), np.log(max(values) / min(values)) / 20)
    assert counts[3] == sum(edges[3] <= value < edges[4] for value in values)


@pytest.mark.parametrize("values", [[0.3], [0.3] * 7])
def test_equal_values_are_one_bin(values):
    assert count_magnitudes(values) == ([len(values)], [0.15, 0.6])


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "values must hold a number"), ([1, 0], "got 0"), ([-1], "got -1"), ([float("inf")], "got inf")],
)
def test_what_has_no_magnitude_is_an_error(tmp_path, values, message):
    for call in (count_magnitudes, lambda given: save_histogram(tmp_path / "h.png", given, x_label="x")):
        with pytest.raises(ValueError, match=message):
            call(values)


def test_a_png_shows_the_counts_and_the_median(tmp_path, monkeypatch):
    figures, write = [], histogram.write_figure
    monkeypatch.setattr(histogram, "write_figure", lambda figure, *rest: (figures.append(figure), write(figure, *rest)))
    values = [0.1, 0.2, 0.2, 0.9]
    save_histogram(tmp_path / "h.png", values, x_label="objects / image (%)")
    with Image.open(tmp_path / "h.png") as picture:
        assert picture.format == "PNG"
    (axes,) = figures[0].axes
    assert [bar.get_height() for bar in axes.patches] == count_magnitudes(values)[0]
    assert axes.lines[0].get_xdata() == [0.2, 0.2]
    assert axes.get_xscale() == "log"

"""Clutter."""

import numpy as np
import pytest

from zoomkern.data.clutter import paper, scatter, scribble, stroke


@pytest.mark.parametrize(
    "make", [lambda g: stroke(g, (40, 90), 0.3), lambda g: scribble(g, 36)], ids=["stroke", "scribble"]
)
def test_ink_is_smooth_and_wholly_inside_its_box(make):
    for seed in range(10):
        ink = make(np.random.default_rng(seed))
        assert ink.dtype == np.uint8
        assert ink.max() > 100
        frame = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert frame.max() == 0
        assert len(np.unique(ink)) > 10  # an anti-aliased edge has many greys


def test_a_stroke_is_as_long_as_asked():
    ink = stroke(np.random.default_rng(0), (100, 100), 0.0)
    assert 100 <= np.hypot(*ink.shape) <= 112


def test_paper_is_dark_and_changes_slowly():
    sheet = paper(np.random.default_rng(0), 512)
    assert sheet.shape == (512, 512)
    assert sheet.max() < 50
    means = sheet.reshape(16, 32, 16, 32).mean((1, 3))
    assert means.std() > 2
    assert np.abs(np.diff(means, axis=0)).max() < 24


def test_scattered_glyphs_brighten_only():
    before = paper(np.random.default_rng(0), 256)
    after = before.copy()
    scatter(np.random.default_rng(1), after, [np.full((9, 5), 200, np.uint8)], 6)
    assert (after >= before).all()
    assert 45 <= (after == 200).sum() <= 6 * 45

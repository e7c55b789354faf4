import io

import numpy as np
import pytest
import torch
from PIL import Image

from zoomkern.viewer import Picture
from zoomkern.viewer.picture import TileCache
from zoomkern.viewer.tiles import MOST_SHRINK, TILE, DeepZoom

PYRAMID = [(100_003, 70_001), (25_000, 17_500), (6250, 4375)]


def test_the_levels_halve_from_full_size():
    zoom = DeepZoom([(1000, 600)])
    assert [zoom.size(level) for level in range(zoom.least, zoom.most + 1)] == [(250, 150), (500, 300), (1000, 600)]


@pytest.mark.parametrize("sizes", [[(1, 1)], [(257, 3)], [(16384, 16384)], PYRAMID, [(100_000, 100_000), (1000, 1000)]])
def test_no_tile_takes_more_than_a_bounded_window(sizes):
    zoom = DeepZoom(sizes)
    for level in range(zoom.least, zoom.most + 1):
        width, height = zoom.size(level)
        columns, rows = -(-width // TILE), -(-height // TILE)
        for column, row in {(0, 0), (columns - 1, rows - 1), (columns // 2, 0)}:
            stored, (x0, y0, x1, y1), size = zoom.source(level, column, row)
            assert 0 <= x0 < x1 <= sizes[stored][0]
            assert 0 <= y0 < y1 <= sizes[stored][1]
            assert max(size) <= TILE
            assert max(x1 - x0, y1 - y0) <= 1.02 * MOST_SHRINK * TILE


def test_the_next_finer_level_is_read():
    zoom = DeepZoom(PYRAMID)
    by_scale = {1 << (zoom.most - level): zoom.source(level, 0, 0).level for level in range(zoom.least, zoom.most + 1)}
    assert by_scale == {1: 0, 2: 0, 4: 1, 8: 1, 16: 2, 32: 2, 64: 2, 128: 2, 256: 2}


@pytest.mark.parametrize("place", [(7, 0, 0), (18, 0, 0), (17, 391, 0), (17, 0, 274), (17, -1, 0)])
def test_a_tile_that_is_not_there(place):
    with pytest.raises(IndexError, match="level"):
        DeepZoom(PYRAMID).source(*place)


def test_an_image_without_small_levels_is_refused(ramp):
    with pytest.raises(ValueError, match="100000 x 100000 pixels.*pyramid"):
        Picture(ramp([(100_000, 100_000)]))


def test_tiles_show_the_pixels_of_their_place(ramp):
    picture = Picture(ramp([(3000, 2000)]))
    assert picture.media == "image/jpeg"
    zoom = picture.zoom
    for level in range(zoom.least, zoom.most + 1):
        scale = 1 << (zoom.most - level)
        width, height = zoom.size(level)
        column, row = (width - 1) // TILE, (height - 1) // TILE
        shown = picture.render(zoom.source(level, column, row)).astype(float)
        assert shown.shape == (height - row * TILE, width - column * TILE, 3)
        x = (np.arange(column * TILE, width)[:-1] + 0.5) * scale / 16
        inside = np.abs((x % 256) - 128) < 120  # the values jump back where they reach 256
        assert np.abs(shown[0, :-1, 0] - x % 256)[inside].max() <= 1.5
        assert (shown[..., 2] == 7).all()
        decoded = Image.open(io.BytesIO(picture.tile(level, column, row)))
        assert decoded.size == shown.shape[1::-1]


@pytest.mark.parametrize(
    ("dtype", "channels"), [(torch.uint16, 1), (torch.float32, 5), (torch.uint8, 1), (torch.float16, 3)]
)
def test_other_pixels_are_stretched(ramp, dtype, channels):
    picture = Picture(ramp([(3000, 2000)], dtype=dtype, channels=channels))
    assert picture.media == "image/png"
    assert len(picture.stretch.bands) == (3 if channels >= 3 else 1)
    shown = np.asarray(Image.open(io.BytesIO(picture.tile(picture.zoom.least, 0, 0))))
    first = shown[..., 0] if shown.ndim == 3 else shown
    assert first.min() <= 2
    assert first.max() >= 180  # 188 of 188, less the tails and the joint map of three bands


def test_bands_of_rows_agree_with_the_whole(ramp, monkeypatch):
    picture = Picture(ramp([(3000, 2000)]))
    source = picture.zoom.source(picture.zoom.least, 0, 0)
    whole = picture.render(source)
    monkeypatch.setattr("zoomkern.viewer.picture.MOST_BYTES", 1 << 19)
    picture.reader.windows.clear()
    assert (picture.render(source) == whole).all()
    assert len(picture.reader.windows) > 5


def test_the_cache_keeps_what_was_asked_for_last():
    cache = TileCache(30)
    for i in range(3):
        cache.put((0, 0, i), bytes(10))
    assert cache.get((0, 0, 0)) is not None
    cache.put((0, 0, 3), bytes(10))
    assert [cache.get((0, 0, i)) is None for i in range(4)] == [False, True, False, False]
    assert cache.bytes == 30

"""The same pixels through every reader, to the byte; what loses, within its tolerance."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zoomkern


def cut(image, y, x, height, width, outside):
    """A window by padding and slicing."""
    margin = 400
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=outside)
    return padded[y + margin : y + margin + height, x + margin : x + margin + width]


def test_every_window_is_the_slice(lossless, image):
    reader = zoomkern.open_image(lossless)
    height, width = image.shape[:2]

    assert (reader.dimensions, reader.header.channels) == ((width, height), 3)
    for y, x, rows, columns in [
        (0, 0, height, width),
        (0, 0, 1, 1),
        (63, 63, 3, 3),
        (64, 128, 64, 64),
        (height - 1, width - 1, 1, 1),
        (-5, -7, 40, 30),
        (100, 150, 80, 90),
        (-300, 0, 10, 10),
        (17, 31, 101, 99),
    ]:
        window = reader.read_window(0, y, x, rows, columns)
        assert window.dtype == np.uint8
        assert window.flags.c_contiguous
        assert np.array_equal(window, cut(image, y, x, rows, columns, reader.header.background)), (y, x, rows, columns)


def test_coarser_levels_are_read_at_places_of_level_0(lossless, image):
    reader = zoomkern.open_image(lossless)
    for level in range(1, reader.level_count):
        step = 2**level
        region = reader.read_region(location=(16 * step, 8 * step), level=level, size=(20, 10))
        assert np.array_equal(region, image[::step, ::step][8:18, 16:36])


def test_tiles_one_by_one_are_the_image(lossless, image):
    reader = zoomkern.open_image(lossless)
    tile = reader.header.tile_sizes[0]
    if tile is None:
        for call in (reader.tile_bytes, reader.decode_tile):
            with pytest.raises(ValueError, match="level must have tiles of its own"):
                call(0, 0, 0) if call == reader.tile_bytes else call(0, b"")
        return
    rows, columns = -(-image.shape[0] // tile[0]), -(-image.shape[1] // tile[1])
    tiles = [[reader.decode_tile(0, reader.tile_bytes(0, r, c)) for c in range(columns)] for r in range(rows)]

    joined = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    assert np.array_equal(joined[: image.shape[0], : image.shape[1]], image)


def test_a_pickled_reader_reads_the_same(lossless, image):
    reader = zoomkern.open_image(lossless)
    reader.read_window(0, 0, 0, 4, 4)
    again = pickle.loads(pickle.dumps(reader))

    assert again.header == reader.header
    assert np.array_equal(again.read_window(0, 50, 60, 70, 80), image[50:120, 60:140])


def test_threads_share_a_reader(lossless, image):
    reader = zoomkern.open_image(lossless)
    places = [(y, x) for y in range(0, 120, 13) for x in range(0, 180, 17)]
    with ThreadPoolExecutor(8) as pool:
        windows = pool.map(lambda place: reader.read_window(0, *place, 24, 20), places)
        for (y, x), window in zip(places, windows, strict=True):
            assert np.array_equal(window, image[y : y + 24, x : x + 20])


def test_what_loses_is_within_its_tolerance(lossy, image):
    path, tolerance = lossy
    reader = zoomkern.open_image(path)
    whole = reader.read_window(0, 0, 0, *image.shape[:2])

    assert np.abs(whole.astype(int) - image).mean() < tolerance
    assert np.array_equal(reader.read_window(0, 33, 60, 50, 70), whole[33:83, 60:130])

"""Readers in the workers of a DataLoader, however those are started: the same bytes."""

from functools import partial
from operator import methodcaller

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import zoomkern

PLACES = [(x, y) for y in (-3, 10, 70, 120) for x in (0, 33, 64, 150, 190)]

#: One format for each reader, and those whose library keeps a thread or a cache.
FORMS = ["npy", "png", "tiff, jpeg 2000", "tiff, planar tiles", "tiff, pages", "ome-tiff", "zarr 2", "zarr 3, shards"]
FORMS += ["aperio", "converted"]


@pytest.fixture
def patches(written):
    """What reads each patch of each format; the readers were used in this process before."""
    calls = []
    paths = [written(form, f"{number}") for number, form in enumerate(FORMS)]
    for reader in [*map(zoomkern.open_image, paths), *slides(paths)]:
        reader.read_window(0, 0, 0, 9, 9)
        calls += [partial(reader.read_region, location=place, level=0, size=(24, 20)) for place in PLACES]
    return calls


def slides(paths):
    from zoomkern.images.readers.slides import SlideReader

    return [SlideReader(paths[FORMS.index("tiff, pages")])]


def check(patches, image, start, workers):
    torch.set_num_threads(1)
    context = start if workers else None
    options = {
        "batch_size": None,
        "num_workers": workers,
        "multiprocessing_context": context,
        "timeout": 120 * bool(workers),
    }
    loaded = DataLoader(patches, collate_fn=methodcaller("__call__"), **options)
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), constant_values=255)
    count = 0
    for patch, call in zip(loaded, patches, strict=True):
        x, y = call.keywords["location"]
        outside = call.func.__self__.header.background
        expected = padded[y + 40 : y + 60, x + 40 : x + 64].copy()
        if outside != 255:
            seen = np.pad(np.ones(image.shape[:2], bool), 40)[y + 40 : y + 60, x + 40 : x + 64]
            expected[~seen] = outside
        assert np.array_equal(patch, expected), call
        count += 1
    assert count == len(patches) == 220


@pytest.mark.parametrize(("start", "workers"), [("fork", 0), ("fork", 2), ("spawn", 1)])
def test_workers_read_the_same_bytes(patches, image, start, workers):
    check(patches, image, start, workers)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_every_start_and_number_of_workers(patches, image, start, workers):
    check(patches, image, start, workers)


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)

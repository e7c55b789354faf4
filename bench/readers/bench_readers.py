"""Patches of image files, by two threads: a tiled JPEG TIFF and its converted copy against OpenSlide in a loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import zoomkern
from bench import workloads
from bench.timing import Rival
from zoomkern.images.writers import convert

openslide = pytest.importorskip("openslide", reason="OpenSlide is not installed")
tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
skimage = pytest.importorskip("skimage.data", reason="scikit-image is not installed")

SIZE, TILE, PATCH, PATCHES, WORKERS, TURNS = 16384, 256, 256, 128, 2, 8
#: How far apart two decoders of JPEG may be: they round differently, and upsample colour in their own way.
CODEC = 2
GOALS = {"tiff": 1.5, "converted": 20}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Histology, repeated and mirrored, as a TIFF of JPEG tiles, and what ``zoomkern convert`` makes of it."""
    folder = tmp_path_factory.mktemp("readers")
    picture = skimage.immunohistochemistry()
    picture = np.concatenate((picture, picture[::-1]))
    picture = np.concatenate((picture, picture[:, ::-1]), 1)
    tiles = [
        picture[y : y + TILE, x : x + TILE] for y in range(0, len(picture), TILE) for x in range(0, len(picture), TILE)
    ]
    rng = np.random.default_rng(0)
    count = (SIZE // TILE) ** 2
    tifffile.imwrite(
        folder / "slide.tif",
        (tiles[i] for i in rng.integers(len(tiles), size=count)),
        shape=(SIZE, SIZE, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 85},
    )
    convert(zoomkern.open_image(folder / "slide.tif"), folder / "slide.zoomkern", levels=1)
    return {"tiff": folder / "slide.tif", "converted": folder / "slide.zoomkern"}


def read_all(read, places):
    """Each patch is let go of before the next one is read."""
    for place in places:
        read(*place)


@pytest.mark.parametrize("kind", GOALS)
def test_read_region(record, files, kind):
    slide = openslide.OpenSlide(files["tiff"])
    reader = zoomkern.open_image(files[kind])
    torch.manual_seed(0)
    turn = workloads.rotate([workloads.places(1, PATCHES, SIZE, PATCH)[0].tolist() for _ in range(TURNS)])

    def theirs(y, x):
        return np.asarray(slide.read_region((x, y), 0, (PATCH, PATCH)).convert("RGB"))

    def ours(y, x):
        return reader.read_region(location=(x, y), level=0, size=(PATCH, PATCH))

    with ThreadPoolExecutor(WORKERS) as pool:

        def loop(read):
            places = turn()
            shares = [places[worker::WORKERS] for worker in range(WORKERS)]
            list(pool.map(lambda share: read_all(read, share), shares))

        plain = zoomkern.open_image(files["tiff"])
        for y, x in turn()[:32]:
            given, wanted = ours(y, x), theirs(y, x)
            assert np.abs(given.astype(int) - wanted).max() <= CODEC
            assert np.array_equal(given, plain.read_region(location=(x, y), level=0, size=(PATCH, PATCH)))
        record(
            kind,
            f"{PATCHES} patches of {PATCH} x {PATCH}, level 0 of {SIZE} x {SIZE} x 3 uint8, "
            + ("JPEG tiles in a TIFF" if kind == "tiff" else "the converted copy")
            + f", {WORKERS} threads",
            lambda: loop(ours),
            [Rival("OpenSlide in a loop", lambda: loop(theirs), GOALS[kind])],
            bytes_moved=PATCHES * PATCH * PATCH * 3,
            share_of=None,
        )

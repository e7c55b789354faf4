"""JPEG tiles through nvImageCodec, here by its decoders for the CPU: imagecodecs' pixels, within a codec's rounding."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import Pyramid, nvimagecodec
from zoomkern.images.readers import ReadError

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")

#: Two decoders of JPEG round differently.
CODEC = 2
HEIGHT, WIDTH = 300, 420


@pytest.fixture(scope="module")
def picture():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 30, (HEIGHT, WIDTH, 3))
    return (np.stack([y / 2, x / 2, (x + y) % 200], axis=2) + noise).clip(0, 255).astype(np.uint8)


FORMS = {
    "RGB": {"compression": "jpeg", "compressionargs": {"outcolorspace": "rgb"}, "photometric": "rgb"},
    "YCbCr": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "YCbCr, halved": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "gray": {"compression": "jpeg", "photometric": "minisblack"},
    "deflate": {"compression": "zlib", "photometric": "rgb"},
}


@pytest.fixture(params=FORMS)
def path(request, tmp_path, picture):
    pixels = picture[..., 0] if request.param == "gray" else picture
    tifffile.imwrite(tmp_path / "image.tif", pixels, tile=(64, 96), **FORMS[request.param])
    return tmp_path / "image.tif"


def opened(path, **options):
    return Pyramid.open(path, where="compressed", **options)


@pytest.mark.parametrize("slot", [1, 1 << 22])
@pytest.mark.parametrize("reading", [{}, {"step": 2}, {"padding_mode": "shift"}, {"fill": 9}])
def test_patches_are_those_of_the_other_decoder(path, monkeypatch, slot, reading):
    monkeypatch.setattr("zoomkern.images.staging.SLOT_BYTES", slot)
    offsets = torch.randint(-30, 400, (2, 40, 2), generator=torch.Generator().manual_seed(0))
    wanted = zoomkern.gather_patches([opened(path)] * 2, offsets, (40, 50), **reading)
    given = zoomkern.gather_patches([opened(path, decoder="nvimgcodec")] * 2, offsets, (40, 50), **reading)

    assert wanted.std() > 10
    assert (given - wanted).abs().max() <= CODEC
    if "deflate" in str(path):
        assert torch.equal(given, wanted)


def test_rgb_is_told_where_only_the_tiff_says_it(tmp_path, picture, monkeypatch):
    """Tiles as scanners write them: no marker of colours, channels by number."""
    path, whole = tmp_path / "image.tif", torch.zeros(1, 1, 2, dtype=torch.int64)
    tifffile.imwrite(path, picture, tile=(64, 96), **FORMS["RGB"])
    data = path.read_bytes().replace(b"\xff\xee\x00\x0eAdobe", b"\xff\xfe\x00\x0eAdobe")
    data = data.replace(b"\x03R\x11\x00G\x11\x00B", b"\x03\x01\x11\x00\x02\x11\x00\x03")
    path.write_bytes(data.replace(b"\x03R\x00G\x00B", b"\x03\x01\x00\x02\x00\x03"))

    wanted = zoomkern.gather_patches([opened(path)], whole, (HEIGHT, WIDTH))
    given = zoomkern.gather_patches([opened(path, decoder="nvimgcodec")], whole, (HEIGHT, WIDTH))
    assert (given - wanted).abs().max() <= CODEC
    monkeypatch.setattr("zoomkern.images.readers.tiff_segments._RGB", b"")
    other = zoomkern.gather_patches([opened(path, decoder="nvimgcodec")], whole, (HEIGHT, WIDTH))
    assert (other - wanted).abs().max() > 50


def test_tiles_are_decoded_once_while_they_are_used(path, monkeypatch):
    decoded = []
    decode = nvimagecodec.DeviceTiles._decode
    monkeypatch.setattr(
        nvimagecodec.DeviceTiles, "_decode", lambda tiles, files: decoded.extend(files) or decode(tiles, files)
    )
    slide = opened(path, decoder="nvimgcodec")
    offsets = torch.tensor([[[0, 0], [5, 5], [10, 20], [70, 0], [69, 3]]])
    zoomkern.gather_patches([slide], offsets, 30)
    jpeg = slide.levels[0].reader.tile_file(0, slide.levels[0].tile_bytes(0, 0)) is not None
    assert len(decoded) == (2 if jpeg else 0)


def test_a_left_out_tile_is_background(tmp_path, picture):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture, tile=(64, 96), **FORMS["RGB"])
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        counts.overwrite((0, *counts.value[1:]))
    patch = zoomkern.gather_patches([opened(path, decoder="nvimgcodec")], torch.tensor([[[0, 0]]]), (64, 97))
    assert (patch[..., :96] == 255).all()
    assert (patch[..., 96] != 255).any()


def test_a_damaged_tile_is_named(tmp_path, picture, capfd):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture, tile=(64, 96), **FORMS["RGB"])
    slide = opened(path, decoder="nvimgcodec")
    tile = slide.levels[0].resident[2, 1]
    slide.levels[0].resident[2, 1] = tile[:-300] + bytes(10)  # decoders go on where pixels are missing
    slide.levels[0].resident[2, 2] = tile.replace(b"\xff\xda", b"\xff\x01")
    with pytest.raises(ReadError, match=r"'.*image\.tif'"):
        zoomkern.gather_patches([slide], torch.tensor([[[130, 200]]]), 60)
    capfd.readouterr()


def test_what_the_library_cannot_decode_the_other_one_may(path, monkeypatch):
    decode = nvimagecodec.DeviceTiles._decode
    monkeypatch.setattr(nvimagecodec.DeviceTiles, "_decode", lambda tiles, files: [None for _ in decode(tiles, files)])
    offsets = torch.tensor([[[0, 0], [70, 90]]])
    given = zoomkern.gather_patches([opened(path, decoder="nvimgcodec")], offsets, 60)
    assert torch.equal(given, zoomkern.gather_patches([opened(path)], offsets, 60))


def test_tiles_are_decoded_in_bounded_groups(path, monkeypatch):
    wanted = zoomkern.gather_patches([opened(path)], torch.tensor([[[y, 3] for y in range(0, 250, 7)]]), 40)
    monkeypatch.setattr(nvimagecodec, "MOST_BYTES", 1)
    slide = opened(path, decoder="nvimgcodec")
    given = zoomkern.gather_patches([slide], torch.tensor([[[y, 3] for y in range(0, 250, 7)]]), 40)
    assert (given - wanted).abs().max() <= CODEC


def test_threads_take_turns(path):
    slide = opened(path, decoder="nvimgcodec")
    offsets = torch.randint(0, 250, (4, 1, 30, 2), generator=torch.Generator().manual_seed(2))
    wanted = [zoomkern.gather_patches([slide], at, 40) for at in offsets]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            given = pool.map(lambda at: zoomkern.gather_patches([slide], at, 40), offsets)
            assert all(map(torch.equal, given, wanted))


FORKED = """
import multiprocessing, sys, torch, zoomkern
slide = zoomkern.Pyramid.open(sys.argv[1], where="compressed", decoder="nvimgcodec")

def read(_):
    try:
        return str(zoomkern.gather_patches([slide], torch.zeros(1, 1, 2).long(), 30).shape)
    except RuntimeError as error:
        return str(error)

with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map(read, [0])[0])
read(0)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map(read, [0])[0])
"""


def test_a_forked_process_uses_it_or_says_why_not(tmp_path, picture):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, picture, tile=(64, 96), **FORMS["RGB"])
    done = subprocess.run([sys.executable, "-c", FORKED, str(path)], capture_output=True, text=True, timeout=100)
    first, second = done.stdout.splitlines()
    assert first == "torch.Size([1, 1, 3, 30, 30])"
    assert "must not be used in a forked process" in second


def test_both_decoders_are_named():
    with pytest.raises(ValueError, match="decoder must be one of.*imagecodecs.*nvimgcodec"):
        Pyramid.open("image.tif", decoder="nvjpeg")


def test_without_the_library_its_name_is_told(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    monkeypatch.delattr("nvidia.nvimgcodec", raising=False)
    with pytest.raises(ImportError, match="pip install"):
        opened(path, decoder="nvimgcodec")

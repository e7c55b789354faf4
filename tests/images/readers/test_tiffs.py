"""TIFF: colour spaces, types, missing parts, maps, channels in pages, and headers that lie."""

import struct
import sys
import time

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images.readers import ReadError
from zoomkern.images.readers.tiff import TiffReader

tifffile = pytest.importorskip("tifffile")

TILES = {"tile": (64, 64)}


def whole(path):
    reader = zoomkern.open_image(path)
    return reader, reader.read_window(0, 0, 0, *reader.shape[1:])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [("uint8", "uint8"), ("uint16", "uint16"), ("int8", "float32"), ("int16", "float32"), ("uint32", "float64"),
     ("int32", "float64"), ("float16", "float16"), ("float32", "float32"), ("float64", "float64")],
)  # fmt: skip
@pytest.mark.parametrize("layout", [{}, {**TILES, "compression": "zlib"}, {"byteorder": ">", "rowsperstrip": 9}])
def test_every_type_keeps_its_values(path, dtype, becomes, layout):
    values = np.random.default_rng(0).integers(-100, 100, (70, 80)).astype(dtype)
    tifffile.imwrite(path, values, photometric="minisblack", **layout)
    reader, pixels = whole(path)

    assert reader.header.dtype == getattr(torch, becomes)
    assert reader.header.background == 0
    assert pixels.dtype == becomes
    assert np.array_equal(pixels[..., 0].astype(np.float64), values.astype(np.float64))


@pytest.mark.parametrize("predictor", [False, True])
def test_floats_with_a_predictor(path, predictor):
    values = np.random.default_rng(0).normal(size=(70, 80, 4)).astype(np.float32)
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zstd"}
    tifffile.imwrite(path, values, **options, **TILES, predictor=predictor)
    assert np.array_equal(whole(path)[1], values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_what_is_transparent_lies_on_white(path, dtype, kind):
    top = np.iinfo(dtype).max
    random = np.random.default_rng(0)
    alpha = random.choice([0, 1, top // 2, top], (70, 80, 1))
    colour = random.integers(0, top + 1, (70, 80, 3))
    stored = colour if kind == "unassalpha" else (colour * alpha) // top
    rgba = np.concatenate([stored, alpha], axis=2).astype(dtype)
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=[kind], **TILES, compression="zlib")
    reader, pixels = whole(path)

    lit = stored * alpha if kind == "unassalpha" else stored * top
    assert (reader.header.channels, reader.header.background) == (3, top)
    assert np.array_equal(pixels, np.rint((lit + (top - alpha) * float(top)) / top).astype(dtype))


def test_a_fourth_sample_that_is_no_opacity_is_a_band(path):
    bands = np.random.default_rng(0).integers(0, 256, (70, 80, 4), dtype=np.uint8)
    tifffile.imwrite(path, bands, photometric="rgb", extrasamples=["unspecified"], **TILES)
    assert np.array_equal(whole(path)[1], bands)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_cmyk_becomes_rgb(path, compression):
    inks = np.random.default_rng(0).integers(0, 256, (70, 80, 4), dtype=np.uint8)
    tifffile.imwrite(path, inks, photometric="separated", **TILES, compression=compression)
    pixels = whole(path)[1]

    left = 255 - inks.astype(float)
    assert np.array_equal(pixels, np.floor(left[..., :3] * left[..., 3:] / 255 + 0.5).astype(np.uint8))


def test_a_palette_becomes_rgb(path):
    random = np.random.default_rng(0)
    table = random.integers(0, 1 << 16, (3, 256)).astype(np.uint16)
    index = random.integers(0, 256, (70, 80), dtype=np.uint8)
    tifffile.imwrite(path, index, photometric="palette", colormap=table, **TILES, compression="lzw")
    assert np.array_equal(whole(path)[1], (table >> 8).astype(np.uint8).T[index])


def test_bits_and_inverted_gray(tmp_path):
    image = pytest.importorskip("PIL.Image")
    bits = np.random.default_rng(0).random((70, 83)) < 0.5
    image.fromarray(bits).save(tmp_path / "bits.tif", compression="group4")
    assert np.array_equal(whole(tmp_path / "bits.tif")[1][..., 0], bits * np.uint8(255))
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(tmp_path / "white.tif", gray, photometric="miniswhite")
    assert np.array_equal(whole(tmp_path / "white.tif")[1][..., 0], 255 - gray)


def test_a_colour_space_that_needs_a_profile_is_refused(path):
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="cielab")
    with pytest.raises(ReadError, match=r"image\.tif.*convert it to RGB"):
        zoomkern.open_image(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (3, 5), (64, 64), (65, 63)])
@pytest.mark.parametrize("layout", [{}, TILES, {"compression": "zlib"}])
def test_small_and_narrow_images(path, shape, layout):
    gray = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tifffile.imwrite(path, gray, photometric="minisblack", **layout)
    reader, pixels = whole(path)
    assert np.array_equal(pixels[..., 0], gray)
    assert np.array_equal(reader.read_window(0, -1, -1, 3, 3)[1:, 1:, 0], np.pad(gray, 2)[2:4, 2:4])


def test_tiles_that_are_left_out_are_background(path):
    def tiles():
        for number in range(6):
            yield np.full((64, 64, 3), 7, np.uint8) if number != 4 else None

    tifffile.imwrite(path, tiles(), shape=(128, 192, 3), dtype=np.uint8, photometric="rgb", **TILES)
    reader, pixels = whole(path)
    assert reader.tile_bytes(0, 1, 1) is None
    assert (reader.decode_tile(0, None) == 255).all()
    assert (pixels[64:, 64:128] == 255).all()
    pixels[64:, 64:128] = 7
    assert (pixels == 7).all()


def test_pages_of_other_kinds_are_no_levels(path, image):
    with tifffile.TiffWriter(path) as file:
        file.write(image, photometric="rgb", **TILES)
        file.write(image[::2, ::2], photometric="rgb", subfiletype=1, **TILES)
        file.write(image[::3, ::2], photometric="rgb", subfiletype=1, **TILES)  # another shape
        file.write(image[::4, ::4, 0], photometric="minisblack", subfiletype=1, **TILES)  # another kind
        file.write(image[::4, ::4], photometric="rgb")  # strips
        file.write(image, photometric="rgb", **TILES)  # a second image
    assert zoomkern.open_image(path).level_dimensions == ((203, 150), (102, 75))


@pytest.mark.parametrize(
    ("sides", "levels"),
    [
        ((512, 400), (512,)),  # two scenes
        ((512, 511, 256), (512, 256)),
        ((500, 167), (500,)),  # a third, which no writer of pyramids makes
        ((515, 128, 64, 33), (515, 128, 64, 33)),
    ],
)
def test_pages_that_do_not_call_themselves_reduced_are_levels_by_powers_of_two(path, sides, levels):
    with tifffile.TiffWriter(path) as file:
        for side in sides:
            file.write(np.zeros((side, side, 3), np.uint8), photometric="rgb", subfiletype=0, **TILES)
    assert zoomkern.open_image(path).level_dimensions == tuple((side, side) for side in levels)


@pytest.mark.parametrize(
    ("resolution", "mpp"),
    [((300 / 2.54, 300 / 2.54), None), ((40_000, 40_000), 0.25), ((40_000, 39_000), 0.2532), ((40_000, 20_000), None)],
)
def test_a_resolution_per_centimetre_is_that_of_instruments(path, resolution, mpp):
    options = {"photometric": "rgb", "resolutionunit": "CENTIMETER", "resolution": resolution}
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), **options)
    assert zoomkern.open_image(path).mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-3))


def test_levels_may_be_missing_between(path, image):
    with tifffile.TiffWriter(path) as file:
        for step in (1, 3, 16):
            file.write(
                np.ascontiguousarray(image[::step, ::step]), photometric="rgb", subfiletype=int(step > 1), **TILES
            )
    reader = zoomkern.open_image(path)

    assert reader.level_count == 3
    assert reader.level_for(downsample=3) == 1
    with pytest.raises(ValueError, match="downsample must be within"):
        reader.level_for(downsample=2)
    with pytest.raises(IndexError, match="level must be from 0 to 2"):
        reader.read_region(location=(0, 0), level=3, size=(4, 4))


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [(0.5, "µm", 0.5), (500, "nm", 0.5), (0.0005, "mm", 0.5), (0, "µm", None), (1e9, "µm", None), (1, "pixel", None)],
)
def test_ome_says_the_mpp(tmp_path, size, unit, mpp):
    path = tmp_path / "image.ome.tif"
    said = {f"PhysicalSize{axis}": size for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint16), metadata={"axes": "CYX", **said})
    reader = zoomkern.open_image(path)

    assert (reader.header.channels, reader.header.dtype) == (2, torch.uint16)
    assert reader.mpp == (None if mpp is None else pytest.approx(mpp))


def test_ome_of_several_planes_is_refused(tmp_path):
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, np.zeros((3, 2, 64, 64), np.uint8), metadata={"axes": "ZCYX"})
    with pytest.raises(ReadError, match="3 planes in depth"):
        zoomkern.open_image(path)


# Maps.


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=12 +lon_0=34 +units=m"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_raster_is_what_rasterio_reads(path, crs, dtype, interleave):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    transform = rasterio.Affine(10.0, 0.0, 399_960.0, 0.0, -10.0, 4_900_020.0)
    nodata = {"uint8": 255, "int16": -9999, "float32": -9999.5}[dtype]
    bands = np.random.default_rng(0).integers(-100, 100, (5, 150, 203)).astype(dtype)
    bands[:, :20, :30] = nodata
    profile = {"driver": "GTiff", "count": 5, "height": 150, "width": 203, "dtype": dtype, "tiled": True}
    options = {"blockxsize": 64, "blockysize": 64, "compress": "deflate", "interleave": interleave}
    with rasterio.open(path, "w", **profile, **options, crs=crs, transform=transform, nodata=nodata) as file:
        file.write(bands)
        file.build_overviews([2, 4])
    reader, pixels = whole(path)
    with rasterio.open(path) as file:
        assert np.array_equal(pixels, file.read().transpose(1, 2, 0))
        assert reader.header.transform == tuple(file.transform)[:6]
        assert rasterio.crs.CRS.from_string(reader.header.crs) == file.crs
    for level in (1, 2):
        with rasterio.open(path, overview_level=level - 1) as file:
            width, height = reader.level_dimensions[level]
            assert np.array_equal(reader.read_window(level, 0, 0, height, width), file.read().transpose(1, 2, 0))
    assert reader.header.crs == crs if crs.startswith("EPSG") else reader.header.crs
    assert reader.header.nodata == reader.header.background == nodata
    assert (reader.read_window(0, -3, -3, 3, 3) == nodata).all()
    assert reader.mpp is None


def test_a_raster_whose_points_are_centres(path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    transform = rasterio.Affine(2.0, 0.5, 100.0, 0.25, -3.0, 200.0)
    profile = {"driver": "GTiff", "count": 1, "height": 20, "width": 30, "dtype": "uint8", "crs": "EPSG:3857"}
    with rasterio.open(path, "w", **profile, transform=transform) as file:
        file.update_tags(AREA_OR_POINT="Point")
        file.write(np.zeros((1, 20, 30), np.uint8))
    with rasterio.open(path) as file:
        assert zoomkern.open_image(path).header.transform == pytest.approx(tuple(file.transform)[:6])


@pytest.mark.parametrize(
    ("text", "dtype", "nodata"), [("300", "uint8", None), ("nan", "float32", "nan"), ("x", "uint8", None)]
)
def test_a_nodata_value_that_no_pixel_has_is_none(path, text, dtype, nodata):
    tags = [(42113, "s", 0, text, True)]
    tifffile.imwrite(path, np.zeros((64, 64), dtype), photometric="minisblack", extratags=tags)
    assert str(zoomkern.open_image(path).header.nodata) == str(nodata)


# Sizes.


def test_beyond_2_to_the_32_bytes(path):
    """A sparse file of 9 GB: the last pixels lie where 32 bits do not reach."""
    height, width = 60_000, 50_000
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(np.zeros((1, 1, 3), np.uint8), photometric="rgb")
    with path.open("r+b") as file:
        page = tifffile.TiffFile(path).pages[0]
        for code, value in ((256, width), (257, height), (278, height)):
            file.seek(page.tags[code].valueoffset)
            file.write(struct.pack("<I", value) if page.tags[code].dtype == 4 else struct.pack("<H", value))
        count = page.tags[279]
        file.seek(count.valueoffset)
        file.write(struct.pack("<Q" if count.dtype == 16 else "<I", height * width * 3 % (1 << 32)))
        start = page.dataoffsets[0]
        file.seek(start + (height * width - 10) * 3)
        file.write(bytes(range(30)))
    reader = zoomkern.open_image(path)

    assert path.stat().st_size > 2 << 32
    assert reader.dimensions == (width, height)
    window = reader.read_window(0, height - 4, width - 10, 4, 10)
    assert np.array_equal(window[-1].ravel(), np.arange(30))
    assert not window[:-1].any()


def lying(path, *tags):
    """A small TIFF by hand: little-endian, one directory."""
    entries = sorted(tags)
    body = b"".join(struct.pack("<HHII", code, kind, count, value) for code, kind, count, value in entries)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + bytes(4) + bytes(100))


def size(width, height, *rest):
    return (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        *rest,
    )


BOMBS = {
    "sides": size(1 << 31, 1 << 31, (322, 4, 1, 256), (323, 4, 1, 256), (324, 4, 1, 200), (325, 4, 1, 10)),
    "tiles": size(1 << 30, 1 << 30, (322, 4, 1, 1 << 30), (323, 4, 1, 1 << 30), (324, 4, 1, 200), (325, 4, 1, 10)),
    "strip": size(1 << 30, 1 << 30, (273, 4, 1, 200), (278, 4, 1, 1 << 30), (279, 4, 1, 10)),
    "offsets": size(1 << 30, 1 << 30, (322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 1 << 31, 200), (325, 4, 1 << 31, 10)),
    "few tiles": size(1 << 20, 1 << 20, (322, 4, 1, 256), (323, 4, 1, 256), (324, 4, 1, 200), (325, 4, 1, 10)),
    "no tiles": size(0, 0, (322, 4, 1, 0), (323, 4, 1, 0), (324, 4, 1, 200), (325, 4, 1, 10)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_headers_that_lie_are_refused_at_once(path, bomb):
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8))
    zoomkern.open_image(path)  # imports what it needs
    lying(path, *BOMBS[bomb])
    start = time.process_time()
    with pytest.raises(ReadError, match=r"image\.tif"):
        TiffReader(path)
    assert time.process_time() - start < 0.05


def test_a_tile_that_claims_to_be_larger_is_refused(tmp_path, image):
    """The JPEG header in a tile may say 65 535 x 65 535: refused before it is decoded."""
    for compression, mark, place in (("jpeg", b"\xff\xc0", 5), ("jpeg2000", b"\xff\x4f\xff\x51", 8)):
        path = tmp_path / f"{compression}.tif"
        tifffile.imwrite(path, image, photometric="rgb", compression=compression, **TILES)
        data = bytearray(path.read_bytes())
        at = data.index(mark) + place
        data[at : at + 4] = b"\x7f\xff\x7f\xff"
        path.write_bytes(data)
        start = time.process_time()
        with pytest.raises(ReadError, match="a tile says that it has"):
            zoomkern.open_image(path).read_window(0, 0, 0, 8, 8)
        assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("target", "said"), [(None, "a circle"), (1 << 30, "beyond its end")])
def test_directories_that_lead_nowhere_are_refused(path, target, said):
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), photometric="minisblack", **TILES)
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first if target is None else target)
    path.write_bytes(data)
    with pytest.raises(ReadError, match=said):
        zoomkern.open_image(path)


def test_a_compression_that_is_not_read_is_named(path):
    lying(path, *(tag for tag in size(64, 64, (273, 4, 1, 200), (279, 4, 1, 10)) if tag[0] != 259), (259, 3, 1, 34887))
    with pytest.raises(ReadError, match="compression 34887"):
        TiffReader(path)


def test_without_rasterio_the_code_of_a_map_is_known(path, monkeypatch):
    keys = (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    tags = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)]
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for code, crs in ((32633, "EPSG:32633"), (32767, None)):
        entry = (34735, "H", len(keys), (*keys[:-1], code), True)
        tifffile.imwrite(path, np.zeros((64, 64), np.uint8), photometric="minisblack", extratags=[*tags, entry])
        header = zoomkern.open_image(path).header
        assert header.transform == (2.0, 0.0, 500.0, 0.0, -2.0, 900.0)
        assert header.crs == crs

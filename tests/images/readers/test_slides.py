"""OpenSlide's own pixels through our readers, on pyramids of two writers."""

import os

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images.readers import ReadError
from zoomkern.images.readers.aperio import AperioReader
from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.slides import SlideReader
from zoomkern.images.readers.tiff import TiffReader

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")

APERIO = "Aperio Image Library v12.0.15\n{width}x{height} (64x64) JPEG/RGB Q=90|AppMag = 40|MPP = {mpp}"


def theirs(path, location, level, size):
    """The region on white, as OpenSlide gives it."""
    with openslide.OpenSlide(path) as slide:
        pixels = np.asarray(slide.read_region(location, level, size)).astype(np.uint32)
    alpha = pixels[..., 3:]
    return ((pixels[..., :3] * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def check_against_openslide(path, tolerance=0):
    """Our regions, inside, across the edges and outside, through the reader that opens it and through OpenSlide's."""
    for reader in (zoomkern.open_image(path), SlideReader(path)):
        with openslide.OpenSlide(path) as slide:
            assert reader.level_dimensions == slide.level_dimensions
            assert reader.level_downsamples == pytest.approx(slide.level_downsamples)
        for level in range(reader.level_count):
            step = round(reader.level_downsamples[level])
            for x, y, width, height in [
                (0, 0, 40, 30),
                (13, 7, 60, 50),
                (20, 0, 200, 9),
                (-8, -4, 30, 30),
                (500, 0, 5, 5),
            ]:
                ours = reader.read_region(location=(x * step, y * step), level=level, size=(width, height))
                want = theirs(path, (x * step, y * step), level, (width, height))
                assert np.abs(ours.astype(int) - want).max() <= tolerance, (type(reader), level, x, y)


@pytest.fixture
def even(image):
    """Sizes whose halves are whole, so that OpenSlide does not blend."""
    return image[:144, :200]


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
def test_a_pyramid_of_tifffile_is_what_openslide_reads(tmp_path, even, compression):
    path = tmp_path / "slide ü.tif"
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            options = {"subfiletype": int(level > 0), "compression": compression, "photometric": "rgb"}
            file.write(np.ascontiguousarray(even[:: 2**level, :: 2**level]), tile=(64, 64), **options)

    assert isinstance(zoomkern.open_image(path), TiffReader)
    check_against_openslide(path, tolerance=2 if compression == "jpeg" else 0)


@pytest.mark.parametrize("options", [{"compression": "deflate"}, {"compression": "jpeg", "Q": 90}, {"bigtiff": True}])
@pytest.mark.parametrize("subifd", [False, True])
def test_a_pyramid_of_libvips_is_what_openslide_reads(tmp_path, even, options, subifd):
    pyvips = pytest.importorskip("pyvips", reason="pyvips is not installed")
    path = tmp_path / "vips.tif"
    tiles = {"tile": True, "tile_width": 64, "tile_height": 64, "pyramid": True, "xres": 4000, "yres": 4000}
    pyvips.Image.new_from_array(even).tiffsave(str(path), **tiles, subifd=subifd, resunit="cm", **options)
    reader = zoomkern.open_image(path)

    assert reader.mpp == pytest.approx(0.25)
    assert reader.level_count > 1
    if subifd:  # which OpenSlide takes for one level
        pages = tmp_path / "pages.tif"
        pyvips.Image.new_from_array(even).tiffsave(str(pages), **tiles, resunit="cm", **options)
        other = zoomkern.open_image(pages)
        assert reader.level_dimensions == other.level_dimensions
        for level, (width, height) in enumerate(reader.level_dimensions):
            window = reader.read_window(level, 0, 0, height, width)
            assert np.array_equal(window, other.read_window(level, 0, 0, height, width))
        return
    check_against_openslide(path, tolerance=2 if options.get("compression") == "jpeg" else 0)


def aperio(path, image, mpp):
    with tifffile.TiffWriter(path) as file:
        for level, pixels in enumerate((image, image[::2, ::2])):
            said = APERIO.format(width=image.shape[1], height=image.shape[0], mpp=mpp)
            options = {"compression": "jpeg", "photometric": "rgb", "description": said, "metadata": None}
            file.write(np.ascontiguousarray(pixels), tile=(64, 64), **options)
            if not level:  # the thumbnail is no level
                file.write(np.ascontiguousarray(image[::3, ::3]), photometric="rgb", description=said, metadata=None)


def test_aperio_s_slide_is_told_by_openslide_and_read_by_its_tiles(tmp_path, even, monkeypatch):
    path = tmp_path / "slide.svs"
    aperio(path, even, 0.4990)
    slide = zoomkern.open_image(path)
    check_against_openslide(path)

    assert isinstance(slide, AperioReader)
    assert slide.header.tile_sizes == ((64, 64), (64, 64))
    assert slide.mpp == 0.499
    assert slide.properties["openslide.vendor"] == "aperio"
    assert slide.properties["aperio.AppMag"] == "40"
    monkeypatch.setattr("zoomkern.images.readers.slides._openslide", missing)
    tiff = zoomkern.open_image(path)
    assert type(tiff) is TiffReader
    assert (tiff.level_dimensions, tiff.mpp) == (slide.level_dimensions, 0.499)


def missing():
    raise ImportError("OpenSlide is not installed")


@pytest.mark.parametrize("tag", ["TileOffsets", "TileByteCounts", "PhotometricInterpretation"])
def test_what_is_not_plain_of_aperio_s_goes_to_openslide(tmp_path, even, tag):
    """Tiles that are left out, which it makes up from others, and colours that only its decoders know."""
    path = tmp_path / "slide.svs"
    aperio(path, even, 0.25)
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in (0, 2):
            found = file.pages[page].tags[tag]
            found.overwrite((*found.value[:-1], 0) if isinstance(found.value, tuple) else 8)

    assert type(zoomkern.open_image(path)) is SlideReader


def test_jpeg_2000_whose_tags_call_it_rgb_goes_to_openslide(tmp_path, even):
    """Of compression 33003 the samples are YCbCr, whatever the tag says; OpenSlide knows."""
    path = tmp_path / "slide.svs"
    said = APERIO.format(width=192, height=128, mpp=0.25)
    options = {"compression": "jpeg2000", "photometric": "rgb", "description": said, "metadata": None}
    tifffile.imwrite(path, np.ascontiguousarray(even[:128, :192]), tile=(64, 64), **options)
    for compression, reader in ((33005, AperioReader), (33003, SlideReader)):
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["Compression"].overwrite(compression)
        assert type(zoomkern.open_image(path)) is reader
    with pytest.raises(ReadError, match="YCbCr"):
        TiffReader(path)


def test_the_tiles_of_a_slide_stay_compressed_in_memory(tmp_path, even, monkeypatch):
    path = tmp_path / "slide.svs"
    aperio(path, even, 0.25)
    offsets = torch.tensor([[[-5, 3], [60, 50], [100, 150]]])
    wanted = zoomkern.gather_patches([zoomkern.Pyramid.open(path, where="resident")], offsets, 32)
    slide = zoomkern.Pyramid.open(path, where="compressed", cache=0)

    monkeypatch.setattr(RawFile, "read", None)  # nothing is read any more
    assert torch.equal(zoomkern.gather_patches([slide], offsets, 32), wanted)


@pytest.mark.parametrize("mpp", ["0", "-1", "nan", "1e9", "1e-9", "unknown"])
def test_an_absurd_mpp_is_unknown(tmp_path, even, mpp):
    path = tmp_path / "slide.svs"
    aperio(path, even, mpp)
    reader = zoomkern.open_image(path)

    assert reader.mpp is None
    with pytest.raises(ValueError, match=r"slide\.svs.*mpp="):
        reader.level_for(mpp=0.5)


@pytest.mark.parametrize(("down", "mpp"), [(39_000, 0.2532), (20_000, None)])
def test_sides_that_differ_a_little_give_their_mean(tmp_path, even, down, mpp):
    path = tmp_path / "slide.tif"
    centimetre = {"resolutionunit": "CENTIMETER", "resolution": (40_000, down)}
    tifffile.imwrite(path, even, tile=(64, 64), photometric="rgb", **centimetre)

    for reader in (zoomkern.open_image(path), SlideReader(path)):
        assert reader.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-3))


def test_the_properties_travel(tmp_path, even):
    path = tmp_path / "slide.svs"
    aperio(path, even, 0.25)
    assert zoomkern.open_image(path).properties["aperio.AppMag"] == "40"


def test_dicom_goes_to_openslide(tmp_path, even, dicoms):
    """A whole-slide DICOM of the uncompressed kind, written by hand."""
    path = dicoms.write_dicom(tmp_path / "slide.dcm", even[:128, :192])
    reader = zoomkern.open_image(path)

    assert isinstance(reader, SlideReader)
    assert reader.mpp == pytest.approx(0.25)
    assert np.array_equal(reader.read_window(0, 0, 0, 128, 192), even[:128, :192])


def test_a_tile_that_would_end_openslide_s_process_is_refused(tmp_path, even):
    """It allocates whatever a directory says that a tile has, and aborts where that is not there."""
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, even, tile=(64, 64), photometric="rgb", compression="zlib", bigtiff=True)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileByteCounts"]
        counts, place = list(tag.value), tag.valueoffset
    with path.open("r+b") as file:
        width = {3: 2, 4: 4, 16: 8}[tag.dtype]
        file.seek(place + (len(counts) - 1) * width)
        file.write(b"\xff" * width)
    for reader in (SlideReader, TiffReader):
        with pytest.raises(ReadError, match=r"slide\.tif"):
            reader(path).read_window(0, 130, 190, 8, 8)


def test_slides_share_one_cache(tmp_path, monkeypatch):
    from zoomkern.images.readers import slides

    given = []
    monkeypatch.setattr(openslide.OpenSlide, "set_cache", lambda self, cache: given.append(cache))
    for number in range(2):
        pixels = np.zeros((64, 64, 3), np.uint8)
        tifffile.imwrite(tmp_path / f"{number}.tif", pixels, tile=(16, 16), photometric="rgb", compression="zlib")
        SlideReader(tmp_path / f"{number}.tif").read_window(0, 0, 0, 8, 8)
    assert len(given) >= 2
    assert all(cache is slides._cache(os.getpid()) for cache in given)
    assert slides._cache(os.getpid()) is not slides._cache(0)  # of another process

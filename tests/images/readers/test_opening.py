"""Which reader a file gets, what is no image, and where the size of a pixel comes from."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import zoomkern
from zoomkern.images.readers import ReadError
from zoomkern.images.readers.libraries import library


@pytest.fixture
def array(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((40, 50, 3), np.uint8))
    return tmp_path / "image.npy"


def test_the_content_decides_not_the_suffix(written, tmp_path, image):
    for name, kind in [("npy", "ArrayReader"), ("png", "PictureReader"), ("tiff, tiles", "TiffReader")]:
        odd = written(name).rename(tmp_path / f"{kind}.svs.txt")
        reader = zoomkern.open_image(odd)
        assert type(reader).__name__ == kind
        assert np.array_equal(reader.read_window(0, 5, 6, 7, 8), image[5:12, 6:14])


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello, world" * 100, b"II*\0", b"MM\0*\0\0\0\x08", b"\x93NUMPY", b"BM"]
)
@pytest.mark.parametrize("suffix", ["tif", "svs", "ndpi", "mrxs", "npy", "png", "dcm"])
def test_what_is_no_image_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"no.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ReadError, match="no.*" + suffix):
        zoomkern.open_image(path)


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "folder.svs").mkdir()
    with pytest.raises(ReadError, match="a folder without one"):
        zoomkern.open_image(tmp_path / "folder.svs")


def test_what_is_not_there_is_not_found(tmp_path, array):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for path in ("nothing.tif", "one", "image.npy/below"):
        with pytest.raises((FileNotFoundError, ReadError, OSError), match=path.split("/")[0]):
            zoomkern.open_image(tmp_path / path)
    with pytest.raises(TypeError, match="path must be a path; got int"):
        zoomkern.open_image(3)  # type: ignore[arg-type]


def test_a_link_is_followed(tmp_path, array):
    (tmp_path / "link").symlink_to(array)
    assert zoomkern.open_image(tmp_path / "link").dimensions == (50, 40)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(ReadError, match="a device or pipe"):
        zoomkern.open_image(tmp_path / "pipe.tif")


def test_what_may_not_be_read_says_so(array, monkeypatch):
    reader = zoomkern.open_image(array)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(array))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        type(reader)(array)


def test_a_file_that_was_replaced_is_not_taken_for_the_old_one(array):
    import pickle

    sent = pickle.dumps(zoomkern.open_image(array))
    np.save(array, np.zeros((400, 50, 3), np.uint8))
    with pytest.raises(ReadError, match="was replaced"):
        pickle.loads(sent).read_window(0, 0, 0, 4, 4)


def test_a_missing_mpp_names_the_file_and_both_cures(array):
    with pytest.raises(ValueError, match=r"image\.npy.*mpp=.*CSV.*image and mpp"):
        zoomkern.open_image(array).level_for(mpp=0.5)
    assert zoomkern.open_image(array, mpp=0.5).level_for(mpp=0.5) == 0
    assert zoomkern.open_image(array, mpp=0.5).level_for(magnification=20) == 0
    with pytest.raises(ValueError, match="mpp must be positive"):
        zoomkern.open_image(array, mpp=0)


@pytest.mark.parametrize("entry", ["image.npy", "./image.npy", "{folder}/image.npy"])
def test_a_table_gives_the_mpp(array, tmp_path, entry):
    table = tmp_path / "mpp.csv"
    table.write_text(f"case,image,mpp\n1,other.npy,9\n2,{entry.format(folder=tmp_path)},0.25\n")

    assert zoomkern.open_image(array, mpp_table=table).mpp == 0.25
    assert zoomkern.open_image(array, mpp=0.5, mpp_table=table).mpp == 0.5
    table.write_text("image,mpp\nelsewhere/image.npy,0.25\n")
    assert zoomkern.open_image(array, mpp_table=table).mpp is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("name,mpp\nimage.npy,1\n", "columns image and mpp"),
        ("", "columns image and mpp"),
        ("image,mpp\nimage.npy,\n", "one positive mpp"),
        ("image,mpp\nimage.npy,-1\n", "one positive mpp"),
        ("image,mpp\nimage.npy,nan\n", "one positive mpp"),
        ("image,mpp\nimage.npy,1\nimage.npy,2\n", "one positive mpp"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(array, tmp_path, rows, said):
    (tmp_path / "mpp.csv").write_text(rows)
    with pytest.raises(ValueError, match=said):
        zoomkern.open_image(array, mpp_table=tmp_path / "mpp.csv")


def test_a_library_that_is_missing_names_its_extra(written, monkeypatch):
    path = written("tiff, tiles")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"needs tifffile: pip install 'zoomkern\[slides\]'"):
        zoomkern.open_image(path)


def test_a_slide_that_looks_like_a_picture_is_not_opened_as_one(written, tmp_path, monkeypatch):
    slide = written("jpeg").rename(tmp_path / "slide.mrxs")  # as MIRAX has it, beside a folder that is missing here
    with pytest.raises(ReadError, match=r"slide\.mrxs"):
        zoomkern.open_image(slide)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImportError, match=r"needs openslide: pip install 'zoomkern\[slides\]'"):
        zoomkern.open_image(slide)


def test_without_openslide_a_plain_tiff_opens(written, monkeypatch):
    path = written("tiff, pages")
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert zoomkern.open_image(path).level_count == 3


def test_importing_the_package_imports_no_library_of_slides():
    names = ["imagecodecs", "openslide", "PIL", "rasterio", "tifffile", "zarr"]
    code = f"import sys, zoomkern; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opening_reads_the_header_alone(tmp_path):
    np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (30_000, 30_000, 3))
    start = time.process_time()
    assert zoomkern.open_image(tmp_path / "big.npy").dimensions == (30_000, 30_000)
    assert time.process_time() - start < 0.5


def test_a_library_is_found():
    assert library("json", "slides").loads("1") == 1

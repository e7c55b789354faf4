"""Which reader a file gets, what is no image, and where the size of a pixel comes from."""

import errno
import os
import struct
import subprocess
import sys
import time
import zlib

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


def test_a_file_of_the_same_size_that_was_replaced_is_told(array, tmp_path):
    reader = zoomkern.open_image(array)
    status = array.stat()
    assert reader.identity == (str(array), status.st_size, status.st_mtime_ns, status.st_ino)
    np.save(tmp_path / "other.npy", np.ones((40, 50, 3), np.uint8))
    os.utime(tmp_path / "other.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(tmp_path / "other.npy", array)
    assert array.stat().st_size == status.st_size
    with pytest.raises(ReadError, match="was replaced"):
        reader.read_window(0, 0, 0, 4, 4)


@pytest.mark.parametrize(
    ("form", "metadata"), [("zarr 2", ".zarray"), ("zarr 3", "zarr.json"), ("ome-zarr 0.4", ".zattrs")]
)
def test_a_folder_is_told_by_its_metadata(written, form, metadata):
    path = written(form)
    reader = zoomkern.open_image(path)
    (path / "note.txt").touch()
    reader.read_window(0, 0, 0, 4, 4)
    reader.close()
    os.utime(path / metadata, ns=(0, 0))
    with pytest.raises(ReadError, match="was replaced"):
        reader.read_window(0, 0, 0, 4, 4)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
@pytest.mark.parametrize("form", ["npy", "tiff, pages", "ome-zarr 0.4", "png"])
def test_a_reader_that_is_not_read_holds_no_file(written, image, form):
    path = written(form)
    zoomkern.open_image(path).read_window(0, 0, 0, 4, 4)  # what the libraries keep for themselves
    before = len(os.listdir("/proc/self/fd"))
    with zoomkern.open_image(path) as reader:
        assert len(os.listdir("/proc/self/fd")) == before
        assert np.array_equal(reader.read_window(0, 0, 0, 4, 4), image[:4, :4])
    assert len(os.listdir("/proc/self/fd")) == before
    assert np.array_equal(reader.read_window(0, 0, 0, 4, 4), image[:4, :4])
    reader.close()
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_many_open_files_is_no_damage(array, monkeypatch):
    reader = zoomkern.open_image(array)

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(array))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files") as caught:
        reader.read_window(0, 0, 0, 4, 4)
    assert not isinstance(caught.value, ReadError)


@pytest.mark.parametrize("location", [(3, 4), [3, 4], np.array([3, 4]), (np.int64(3), np.uint8(4))])
def test_a_location_is_any_two_integers(array, location):
    region = zoomkern.open_image(array).read_region(location=location, level=np.int64(0), size=(5, 6))
    assert region.shape == (6, 5, 3)


@pytest.mark.parametrize("location", [(3.0, 4), "34", ("3", "4"), (3,), (1, 2, 3), 3, None, (True, 1), {1: 2, 3: 4}])
def test_other_locations_are_refused(array, location):
    with pytest.raises(TypeError, match="location must be"):
        zoomkern.open_image(array).read_region(location=location, level=0, size=(5, 6))


def test_opening_a_png_decodes_nothing(written, monkeypatch):
    image_file = pytest.importorskip("PIL.ImageFile")
    path = written("png")

    def refuse(self):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(image_file.ImageFile, "load", refuse)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse)
    assert zoomkern.open_image(path).dimensions == (203, 150)


@pytest.mark.parametrize("late", [False, True])
def test_a_png_is_turned_as_its_exif_says_wherever_that_is(tmp_path, image, late):
    pil = pytest.importorskip("PIL.Image")
    path, exif = tmp_path / "turned.png", pil.Exif()
    exif[274] = 6
    pil.fromarray(image).save(path, exif=exif)
    if late:  # behind the pixels, where exiftool writes it
        data = path.read_bytes()
        at = data.index(b"eXIf") - 4
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        path.write_bytes(data[:at] + data[end:-12] + data[at:end] + data[-12:])
    reader = zoomkern.open_image(path)
    assert reader.dimensions == (150, 203)
    assert np.array_equal(reader.read_window(0, 0, 0, 203, 150), np.rot90(image, -1))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("side", "refused"), [(30_000, False), (40_000, True)])
def test_a_png_that_is_a_bomb_costs_nothing_to_open(written, tmp_path, side, refused):
    zoomkern.open_image(written("png"))  # imports what it needs
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    squeeze = zlib.compressobj(1)
    rows = b"".join(squeeze.compress(bytes(side + 1)) for _ in range(2000)) + squeeze.flush()
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    start = time.process_time()
    if refused:
        with pytest.raises(ReadError, match="max_pixels must be at least"):
            zoomkern.open_image(tmp_path / "bomb.png")
    else:
        assert zoomkern.open_image(tmp_path / "bomb.png").dimensions == (side, side)
    assert time.process_time() - start < 0.1


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


def test_a_process_holds_few_files(tmp_path, monkeypatch):
    from zoomkern.images.readers import reader as room

    monkeypatch.setattr(room, "MOST_OPEN", 3)
    room._OPEN.clear()
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((4, 4, 3), number, np.uint8))
    readers = [zoomkern.open_image(tmp_path / f"{number}.npy") for number in range(6)]
    for _ in range(2):
        assert [int(reader.read_window(0, 1, 1, 1, 1)[0, 0, 0]) for reader in readers] == list(range(6))
    assert sum(reader._opened is not None for reader in readers) <= 3

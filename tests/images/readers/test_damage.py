"""Files that are cut, changed under a reader, or lie: one class of errors, no crash, no hang, no memory."""

import importlib
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

import zoomkern
from zoomkern.images.readers import ReadError

MUTATE = Path(__file__).with_name("mutate.py")

#: The formats whose files are damaged for each reader, in turn.
DAMAGED = {
    "AperioReader": ["aperio"],
    "ArrayReader": ["npy", "npy, Fortran's order"],
    "ConvertedReader": ["converted"],
    "PictureReader": ["png", "jpeg", "webp", "bmp"],
    "SlideReader": ["dicom", "tiff, pages", "tiff, jpeg, YCbCr"],
    "TiffReader": [
        "tiff, pages",
        "tiff, jpeg, YCbCr",
        "tiff, sub-directories",
        "tiff, zstd, big",
        "tiff, jpeg 2000",
        "tiff, strips",
        "tiff, raw strips",
        "tiff, planar tiles",
        "ome-tiff",
    ],
    "ZarrReader": ["zarr 2", "zarr 3", "zarr 3, shards", "ome-zarr 0.5"],
}


def check(written, reader, count, seed):
    if reader in ("AperioReader", "SlideReader"):
        pytest.importorskip("openslide")
    paths = [str(written(form, str(number))) for number, form in enumerate(DAMAGED[reader])]
    command = [sys.executable, str(MUTATE), reader, str(count), str(seed), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    print(done.stdout)
    assert report["other exceptions"] == {}, report
    assert report["slowest seconds"] < 5, report
    assert report["memory grown MiB"] < 256, report
    assert report["refused"] > count / 20, report  # the damage is met


@pytest.mark.timeout(7200)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("reader", DAMAGED)
def test_thousands_of_damaged_files_of_each_reader(written, reader):
    """5,000 of them; before a release ZOOMKERN_DAMAGED_FILES=100000, with another ZOOMKERN_SEED."""
    count, seed = (
        int(os.environ.get(f"ZOOMKERN_{name}", usual)) for name, usual in (("DAMAGED_FILES", 5000), ("SEED", 0))
    )
    check(written, reader, count, seed)


@pytest.mark.parametrize("form", ["npy", "tiff, one raw strip", "tiff, tiles", "zarr 2"])
def test_a_file_cut_under_a_reader_gives_an_error(written, form):
    path = written(form)
    reader = zoomkern.open_image(path)
    reader.read_window(0, 0, 0, 8, 8)
    chunk = path if path.is_file() else max(file for file in path.rglob("*") if file.name[0].isdigit())
    os.truncate(chunk, chunk.stat().st_size // 2)
    with pytest.raises(ReadError, match="the image ü"):
        reader.read_window(0, 0, 0, *reader.shape[1:])


@pytest.mark.parametrize("form", ["npy", "png", "bmp", "tiff, tiles", "tiff, pages", "jpeg"])
def test_every_cut_is_an_error(written, form):
    path = written(form)
    data = path.read_bytes()
    for length in (0, 1, 7, 60, 130, len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        path.write_bytes(data[:length])
        with pytest.raises(ReadError, match="the image ü"):
            zoomkern.open_image(path).read_window(0, 0, 0, 150, 203)


def test_pictures_beyond_the_limit_are_refused_by_their_header(written):
    from zoomkern.images.readers.pictures import PictureReader

    with pytest.raises(ReadError, match="max_pixels must be at least 30450"):
        PictureReader(written("png"), max_pixels=30_000)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4), complex), "complex128"),
        (np.zeros((4, 4), "M8[s]"), "datetime64"),
        (np.zeros((4, 4), "U3"), "str96"),
        (np.zeros((4, 4), object), "object"),
        (np.zeros((4, 4), [("a", "u1")]), "void8"),
        (np.zeros(4, np.uint8), "its shape is"),
        (np.zeros((2, 2, 2, 2), np.uint8), "its shape is"),
        (np.zeros((0, 4, 3), np.uint8), "holds no image"),
        (np.zeros((4, 4), np.int64), "int64"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, said):
    np.save(tmp_path / "array.npy", array)
    with pytest.raises(ReadError, match=rf"array\.npy.*{said}"):
        zoomkern.open_image(tmp_path / "array.npy")


def bombs(folder):
    """Small files whose headers ask for more memory than there is."""
    with (folder / "bomb.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 40)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    sides = struct.pack(">II", 1 << 30, 1 << 30)
    chunk = b"IHDR" + sides + b"\x08\x02\0\0\0"
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (folder / "bomb.png").write_bytes(start + struct.pack(">I", 10) + b"IDAT" + bytes(14))
    (folder / "bomb.bmp").write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 200, 0, 54, 40, *(1 << 30,) * 2, 1, 24, *(0,) * 6)
    )
    said = {"zarr_format": 2, "shape": [1 << 30, 1 << 30], "chunks": [1 << 30, 1 << 30], "dtype": "|u1", "order": "C"}
    (folder / "bomb.zarr").mkdir()
    rest = {"compressor": None, "filters": None, "fill_value": 0}
    (folder / "bomb.zarr" / ".zarray").write_text(json.dumps({**said, **rest}))


@pytest.mark.parametrize(("suffix", "good"), [("npy", "npy"), ("png", "png"), ("bmp", "bmp"), ("zarr", "zarr 2")])
def test_bombs_are_refused_by_their_header(written, tmp_path, suffix, good):
    zoomkern.open_image(written(good))  # imports what it needs
    bombs(tmp_path)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ReadError, match=rf"bomb\.{suffix}"):
        zoomkern.open_image(tmp_path / f"bomb.{suffix}")
    assert time.process_time() - start < 0.05
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_beyond_2_to_the_32_bytes(tmp_path):
    path = tmp_path / "big.npy"
    with path.open("wb") as file:
        shape = (50_000, 60_000, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + 50_000 * 60_000 * 3)
        file.seek(start + (49_998 * 60_000 + 59_990) * 3)
        file.write(bytes(range(30)))
    reader = zoomkern.open_image(path)
    assert np.array_equal(reader.read_window(0, 49_998, 59_990, 1, 10).ravel(), np.arange(30))
    assert not reader.read_window(0, 49_999, 59_990, 1, 10).any()


def test_a_group_that_lies_is_refused(written):
    path = written("ome-zarr 0.5")
    file = path / "zarr.json"
    good = file.read_text()
    for old, new, said in [
        ('"x"', '"q"', "its axes are"),
        ('"path": "1"', '"path": "../other"', "reading"),
        ("multiscales", "others", "without multiscales"),
    ]:
        file.write_text(good.replace(old, new))
        with pytest.raises(ReadError, match=said):
            zoomkern.open_image(path)


@pytest.mark.parametrize("big", [False, True])
def test_directories_that_share_a_table_are_refused_before_it_is_read(tmp_path, big):
    """Thousands of them take no room in a file."""
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((16 * 300, 16 * 300, 1), np.uint8), tile=(16, 16), compression="zlib", bigtiff=big)
    data = bytearray(path.read_bytes())
    head, entry, link = ("<Q", 20, "<Q") if big else ("<H", 12, "<I")
    (first,) = struct.unpack_from(link, data, 8 if big else 4)
    (count,) = struct.unpack_from(head, data, first)
    end = first + struct.calcsize(head) + count * entry
    directory = bytes(data[first:end])
    for _ in range(400):
        struct.pack_into(link, data, end, len(data))
        data += directory + bytes(struct.calcsize(link))
        end = len(data) - struct.calcsize(link)
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    for name in ("tiff.TiffReader", "slides.SlideReader"):
        module, reader = name.split(".")
        with pytest.raises(ReadError, match="more than the .* bytes that it has"):
            getattr(importlib.import_module(f"zoomkern.images.readers.{module}"), reader)(path)
    assert time.perf_counter() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_jpeg_2000_of_other_components_than_the_file_says_is_refused(written):
    path = written("tiff, jpeg 2000")
    data = bytearray(path.read_bytes())
    at = data.find(b"\xff\x4f\xff\x51")
    assert data[at + 40 : at + 42] == b"\0\3"
    data[at + 40 : at + 42] = struct.pack(">H", 400)
    path.write_bytes(data)
    with pytest.raises(ReadError, match="400 components"):
        zoomkern.open_image(path).read_window(0, 0, 0, 8, 8)


def test_a_jpeg_tile_that_was_cut_is_refused(written):
    tifffile = pytest.importorskip("tifffile")
    path = written("tiff, jpeg, RGB")
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        counts.overwrite((counts.value[0] // 2, *counts.value[1:]))
    with pytest.raises(ReadError, match="was cut"):
        zoomkern.open_image(path).read_window(0, 0, 0, 8, 8)


@pytest.mark.parametrize(
    ("codecs", "said"),
    [
        ({"compressors": ["zstd", "gzip"]}, "encoded by bytes, zstd, gzip"),
        ({"compressors": ["gzip", "crc32c"], "filters": ["transpose"]}, None),
        ({"compressors": ["blosc"], "shards": (128, 128, 3)}, None),
    ],
    ids=["two compressions", "turned and checked", "shards"],
)
def test_chunks_are_decoded_within_their_size(tmp_path, image, codecs, said):
    zarr = pytest.importorskip("zarr")
    from zarr import codecs as known

    made = {
        "zstd": known.ZstdCodec(), "gzip": known.GzipCodec(), "crc32c": known.Crc32cCodec(),
        "blosc": known.BloscCodec(), "transpose": known.TransposeCodec(order=(2, 0, 1)),
    }  # fmt: skip
    options = {name: [made[one] for one in value] if name != "shards" else value for name, value in codecs.items()}
    path = tmp_path / "image.zarr"
    zarr.create_array(path, shape=image.shape, dtype=image.dtype, chunks=(64, 64, 3), **options)[:] = image
    if said is not None:
        with pytest.raises(ReadError, match=said):
            zoomkern.open_image(path)
        return
    reader = zoomkern.open_image(path)
    assert reader.header.tile_sizes == ((64, 64),)
    assert np.array_equal(reader.read_window(0, 0, 0, 150, 203), image)
    if "crc32c" in codecs["compressors"]:
        chunk = max((file for file in path.rglob("c/**/*") if file.is_file()), key=lambda file: file.stat().st_size)
        data = bytearray(chunk.read_bytes())
        data[-1] ^= 1
        chunk.write_bytes(data)
        with pytest.raises(ReadError, match="checksum"):
            reader.read_window(0, 0, 0, 150, 203)

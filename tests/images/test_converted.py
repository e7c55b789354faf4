"""Copies of images: the same pixels, the same levels as in memory, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoomkern.images import Pyramid
from zoomkern.images.readers import Header, Reader, ReadError, open_image
from zoomkern.images.readers.converted import HEAD_BYTES, MAGIC, ConvertedReader, Layout
from zoomkern.images.readers.reader import numpy_type
from zoomkern.images.writers import conversion, convert
from zoomkern.images.writers.pyramid_file import PyramidFile
from zoomkern.images.writers.writer import is_all


class Picture(Reader):
    """An .npy file of ``[H, W, C]``; ``header`` overrides what is said of it."""

    said: dict[str, Any] = {}

    def _open(self) -> Any:
        return np.load(self.path)

    def _read_header(self, handle: Any) -> Header:
        height, width, channels = handle.shape
        dtype = getattr(torch, handle.dtype.name)
        return Header(((width, height),), channels, dtype, (None,))._replace(**self.said)

    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> Any:
        return handle[y : y + height, x : x + width]


@pytest.fixture
def make(tmp_path):
    def build(shape=(700, 900, 3), dtype=np.uint8, name="source.npy", **said):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, shape).astype(dtype)
        if dtype == np.uint16:
            pixels *= 257
        if np.dtype(dtype).kind == "f":
            pixels = (pixels / 7 - 9).astype(dtype)
        return of(pixels, name, **said)

    def of(pixels, name="source.npy", **said):
        path = tmp_path / name
        np.save(path, pixels)
        kind = type("Picture", (Picture,), {"said": said})
        return kind(path)

    build.of = of
    return build


def pixels_of(reader, level=0):
    width, height = reader.level_dimensions[level]
    return reader.read_window(level, 0, 0, height, width)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(700, 901, 3), (1, 1, 1), (257, 3, 2), (300, 2100, 4)])
@pytest.mark.parametrize("block", [64, 1024])
def test_levels_are_those_of_a_pyramid_in_memory_bit_for_bit(make, tmp_path, monkeypatch, dtype, shape, block):
    monkeypatch.setattr(conversion, "_BLOCK", block)
    source = make(shape, dtype)
    levels = min(6, 1 + (min(shape[:2]) - 1).bit_length()) if min(shape[:2]) > 1 else 1

    copy = ConvertedReader(convert(source, tmp_path / "copy", levels=levels, tile=32, threads=3))

    image = torch.from_numpy(np.load(source.path)).permute(2, 0, 1)
    built = Pyramid.build(image, levels=levels)
    assert copy.level_dimensions == built.level_dimensions
    assert copy.header.dtype == image.dtype
    for level, wanted in enumerate(built):
        assert np.array_equal(pixels_of(copy, level), wanted.permute(1, 2, 0).numpy())


def test_levels_are_as_many_as_pyramids_have(make, tmp_path):
    copy = ConvertedReader(convert(make((1100, 2500, 3)), tmp_path / "copy"))
    assert copy.level_dimensions == ((2500, 1100), (1250, 550), (625, 275))


def test_windows_anywhere_are_those_of_the_source(make, tmp_path):
    source = make()
    copy = ConvertedReader(convert(source, tmp_path / "copy", tile=64))
    rng = np.random.default_rng(1)
    for y, x, height, width in zip(*rng.integers(-100, 900, (2, 60)), *rng.integers(1, 300, (2, 60)), strict=True):
        assert np.array_equal(copy.read_window(0, y, x, height, width), source.read_window(0, y, x, height, width))


def test_tiles_are_the_pixels_filled_up_with_background(make, tmp_path):
    source = make((100, 70, 3), background=7.0)
    copy = ConvertedReader(convert(source, tmp_path / "copy", tile=64))
    assert copy.header.tile_sizes == ((64, 64),)
    whole = np.full((128, 128, 3), 7, np.uint8)
    whole[:100, :70] = np.load(source.path)
    for row in range(2):
        for column in range(2):
            tile = copy.decode_tile(0, copy.tile_bytes(0, row, column))
            assert np.array_equal(tile, whole[64 * row :, 64 * column :][:64, :64])


SAID = {
    "mpp": 0.25,
    "background": 3.0,
    "nodata": -9999.0,
    "transform": (1.0, 0.0, 2.5, 0.0, -1.0, 1e7),
    "crs": "EPSG:32633",
    "properties": {"openslide.vendor": "größe"},
}
NOTHING = {"mpp": None, "background": 0.0, "nodata": None, "transform": None, "crs": None, "properties": {}}
NO_NUMBERS = {"mpp": 1000.0, "background": float("nan"), "nodata": float("-inf")}


@pytest.mark.parametrize("format", ["pyramid", "ome-zarr"])
@pytest.mark.parametrize("said", [SAID, NOTHING, NO_NUMBERS], ids=["all", "nothing", "no numbers"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_the_source_says_is_kept(make, tmp_path, format, said, dtype):
    if format == "ome-zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    if dtype == np.uint8 and said is NO_NUMBERS:
        said = said | {"background": 9.0}
    source = make((300, 300, 3), dtype=dtype, **said)
    header = open_image(convert(source, tmp_path / "copy", format)).header
    wanted = source.header._replace(tile_sizes=((256, 256),))
    assert repr(header._replace(properties=dict(header.properties))) == repr(wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        [],
        {"background": 256},
        {"background": "NaN"},
        {"background": 0.5},
        {"background": [0]},
        {"background": 10**400},
        {"mpp": -1},
        {"mpp": "Infinity"},
        {"mpp": True},
        {"nodata": "none"},
        {"transform": [1, 0, 0, 0, 1]},
        {"transform": [1, 0, 0, 0, 1, "NaN"]},
        {"transform": "abcdef"},
        {"crs": 32633},
        {"properties": ["a"]},
        {"properties": {"a": 1}},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_is_wrong_beside_the_multiscales_is_an_error(make, tmp_path, wrong):
    pytest.importorskip("zarr", reason="zarr is not installed")
    attributes = convert(make((64, 64, 3)), tmp_path / "copy", "ome-zarr") / ".zattrs"
    attributes.write_text(json.dumps(json.loads(attributes.read_text()) | {"zoomkern": wrong}))
    with pytest.raises(ReadError, match="'.*copy'"):
        open_image(tmp_path / "copy")


def test_an_mpp_that_was_given_is_written(make, tmp_path):
    source = make(mpp=0.5)
    given = type(source)(source.path, mpp=0.25)
    assert ConvertedReader(convert(given, tmp_path / "copy")).mpp == 0.25


@pytest.mark.parametrize(("dtype", "background"), [(np.uint8, 255.0), (np.float32, float("nan")), (np.uint16, 0.0)])
def test_background_takes_no_room(make, tmp_path, dtype, background):
    pixels = np.full((2000, 2000, 3), background, dtype)
    pixels[900:1000, 300:310] = 5
    source = make.of(pixels, background=background)
    path = convert(source, tmp_path / "copy", tile=256)
    copy = ConvertedReader(path)
    assert path.stat().st_size < 16 * 256 * 256 * 3 * np.dtype(dtype).itemsize
    assert np.array_equal(pixels_of(copy), pixels, equal_nan=np.dtype(dtype).kind == "f")
    assert copy.tile_bytes(0, 0, 0) is None
    tile = copy.decode_tile(0, None)
    assert tile.shape == (256, 256, 3)
    assert is_all(tile, background)


def test_a_copy_of_a_copy_is_the_same_file(make, tmp_path):
    first = convert(make(), tmp_path / "first")
    second = convert(ConvertedReader(first), tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def test_any_number_of_threads_writes_the_same_bytes(make, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_BLOCK", 64)
    copies = [convert(make(), tmp_path / str(threads), tile=32, threads=threads) for threads in (1, 5)]
    assert copies[0].read_bytes() == copies[1].read_bytes()


def test_names_with_spaces_and_umlauts(make, tmp_path):
    folder = tmp_path / "Größe 10 µm"
    path = convert(make(name="Bild für 图.npy"), folder / "Kopie für 图 .zoomkern")
    assert ConvertedReader(path).dimensions == (900, 700)
    assert [file.name for file in folder.iterdir()] == ["Kopie für 图 .zoomkern"]


# A copy that is interrupted.


class Stop(Exception):
    pass


def stop_after(monkeypatch, kind, count):
    """The writer of a format fails at its ``count``-th block."""
    left = [count]
    real = kind.write

    def write(self, *args):
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        real(self, *args)

    monkeypatch.setattr(kind, "write", write)


@pytest.mark.parametrize("format", ["pyramid", "ome-zarr"])
def test_a_copy_goes_on_where_it_was_and_ends_the_same(make, tmp_path, monkeypatch, format):
    if format == "ome-zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    monkeypatch.setattr(conversion, "_BLOCK", 64)
    monkeypatch.setattr(conversion, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(conversion, "_RECORD_PART", 0)
    source = make((500, 300, 3))
    whole = convert(source, tmp_path / "whole", format, tile=32, levels=3)
    output = tmp_path / "copy"
    kind = conversion.FORMATS[format]
    seen = []
    for _ in range(100):
        with monkeypatch.context() as patch:
            stop_after(patch, kind, 7)
            try:
                rows = []
                convert(
                    source, output, format, tile=32, levels=3, progress=lambda done, total, rows=rows: rows.append(done)
                )
                break
            except Stop:
                assert not output.exists()
                seen.append(rows[0])
    assert seen == sorted(seen)
    assert seen[-1] > 0
    assert files_of(output) == files_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source.npy", "whole"]


def files_of(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("change", ["source", "tile", "levels", "format"])
def test_a_copy_of_something_else_begins_anew(make, tmp_path, monkeypatch, change):
    monkeypatch.setattr(conversion, "_BLOCK", 64)
    monkeypatch.setattr(conversion, "RECORD_SECONDS", 0.0)
    source = make((500, 300, 3))
    arguments = {"tile": 32, "levels": 3}
    with monkeypatch.context() as patch:
        stop_after(patch, PyramidFile, 20)
        with pytest.raises(Stop):
            convert(source, tmp_path / "copy", **arguments)
    if change == "format":
        pytest.importorskip("zarr", reason="zarr is not installed")
        convert(source, tmp_path / "copy", "ome-zarr", **arguments)
        assert (tmp_path / "copy" / ".zattrs").is_file()
        return
    if change == "source":
        source = make.of(np.load(source.path)[::-1].copy())
    else:
        arguments[change] = {"tile": 64, "levels": 2}[change]
    copy = ConvertedReader(convert(source, tmp_path / "copy", **arguments))
    assert np.array_equal(pixels_of(copy), np.load(source.path))
    assert copy.level_count == arguments["levels"]


def convert_and_stop(source, output, monkeypatch):
    """A run that ends just behind its renaming."""
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "sync_folder", lambda path: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            convert(source, output)


def test_a_run_that_was_killed_after_the_renaming_is_finished_by_the_next(make, tmp_path, monkeypatch):
    source = make()
    convert_and_stop(source, tmp_path / "copy", monkeypatch)
    assert (tmp_path / "copy").exists()
    convert(source, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source.npy"]
    with pytest.raises(FileExistsError, match="overwrite"):
        convert(source, tmp_path / "copy")


def test_a_copy_that_was_moved_away_is_made_anew(make, tmp_path, monkeypatch):
    source = make()
    convert_and_stop(source, tmp_path / "copy", monkeypatch)
    (tmp_path / "copy").unlink()
    assert ConvertedReader(convert(source, tmp_path / "copy")).dimensions == (900, 700)


def test_one_copy_is_made_by_one_process(make, tmp_path):
    from zoomkern.images.files import alone

    with alone(tmp_path / ".copy.part" / "lock"), pytest.raises(OSError, match="another process"):
        convert(make(), tmp_path / "copy")


def test_a_full_disk_leaves_what_was_there_and_says_so(make, tmp_path, monkeypatch):
    source = make()
    output = tmp_path / "copy"
    output.write_bytes(b"what was there")
    real, left = os.pwrite, [1 << 20]

    def pwrite(descriptor, data, offset):
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match=r"No space left on device.*\.copy\.part.*goes on") as caught:
            convert(source, output, overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(output)
    assert output.read_bytes() == b"what was there"
    convert(source, output, overwrite=True)
    assert np.array_equal(pixels_of(ConvertedReader(output)), np.load(source.path))


def test_a_damaged_source_is_named(make, tmp_path):
    source = make()
    read = type(source)._read_window
    type(source)._read_window = lambda self, handle, level, y, *rest: read(self, handle, level, y, *rest)[:1]
    with pytest.raises(ReadError, match=r"source\.npy"):
        convert(source, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# What is refused.


def test_what_is_there_is_kept_unless_told_otherwise(make, tmp_path):
    source = make()
    convert(source, tmp_path / "copy", tile=32)
    before = (tmp_path / "copy").read_bytes()
    with pytest.raises(FileExistsError, match="pass overwrite"):
        convert(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == before
    convert(source, tmp_path / "copy", overwrite=True)
    assert (tmp_path / "copy").read_bytes() != before


@pytest.mark.parametrize("format", ["pyramid", "ome-zarr"])
@pytest.mark.parametrize("output", ["source.npy", ".", "folder", "/"])
def test_neither_the_source_nor_a_folder_of_others_is_replaced(make, tmp_path, format, output):
    source = make()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    before = source.path.read_bytes()
    with pytest.raises((FileExistsError, ValueError), match="output must"):
        convert(source, tmp_path / output, format, overwrite=True)
    assert source.path.read_bytes() == before
    assert (tmp_path / "folder" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"format": "tiff"}, "format must be one of"),
        ({"tile": 100}, "multiple of 16"),
        ({"tile": 8}, "between 16"),
        ({"levels": 0}, "levels must be between 1"),
        ({"levels": 40}, "levels must be at most"),
        ({"threads": 0}, "threads"),
    ],
)
def test_arguments_that_do_not_fit(make, tmp_path, arguments, said):
    with pytest.raises(ValueError, match=said):
        convert(make(), tmp_path / "copy", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["source.npy"]


# Files that are damaged.


@pytest.fixture
def copy(make, tmp_path):
    return convert(make((300, 300, 3)), tmp_path / "copy", tile=64)


def test_every_truncation_is_an_error(copy):
    data = copy.read_bytes()
    for length in [*range(100), HEAD_BYTES + 5, 4096, len(data) // 2, len(data) - 1]:
        copy.write_bytes(data[:length])
        with pytest.raises(ReadError, match="'.*copy'"):
            ConvertedReader(copy)


def test_every_changed_byte_before_the_pixels_is_an_error_or_does_not_matter(copy):
    data = bytearray(copy.read_bytes())
    start = struct.unpack_from("<16sQ", data)[1] + HEAD_BYTES
    good = pixels_of(ConvertedReader(copy)).tobytes()
    rng = np.random.default_rng(0)
    for place in [*range(0, start, 3), *rng.integers(4096, 4096 + 25 * 8, 40)]:
        changed = data.copy()
        changed[place] ^= 1 << int(rng.integers(8))
        copy.write_bytes(changed)
        try:
            assert pixels_of(ConvertedReader(copy)).tobytes() == good
        except ReadError:
            continue


def test_an_unfinished_copy_is_no_image(make, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(PyramidFile, "finish", lambda self: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            convert(make(), tmp_path / "copy")
    part = tmp_path / ".copy.part" / "copy"
    assert part.stat().st_size > 700 * 900 * 3
    with pytest.raises(ReadError, match="finished"):
        ConvertedReader(part)


def test_a_later_version_is_named(copy):
    data = copy.read_bytes()
    copy.write_bytes(data.replace(b'"version": 1', b'"version": 9'))
    with pytest.raises(ReadError, match="version 9"):
        ConvertedReader(copy)


@pytest.mark.parametrize(
    ("said", "words"),
    [({"mpp": "x"}, "mpp"), ({"mpp": -1}, "mpp"), ({"properties": 5}, "properties"), ({"transform": [1, 2]}, "six"),
     ({"crs": 5}, "crs"), ({"levels": [[100, 100], [200, 50]]}, "grow")],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(copy, said, words):
    data = copy.read_bytes()
    length = struct.unpack_from("<Q", data, 16)[0]
    with pytest.raises(ValueError, match=words):
        Layout.parse(json.dumps(json.loads(data[HEAD_BYTES : HEAD_BYTES + length]) | said).encode())


def test_a_file_truncated_while_it_is_read_gives_an_error_and_no_signal(copy):
    reader = ConvertedReader(copy)
    reader.read_window(0, 0, 0, 10, 10)
    os.truncate(copy, 5000)
    with pytest.raises(ReadError, match="'.*copy'"):
        reader.read_window(0, 200, 200, 100, 100)


# Threads and processes.


def checksum(reader: Reader, seed: int) -> int:
    rng = np.random.default_rng(seed)
    return sum(int(reader.read_window(0, y, x, 70, 70).sum()) for y, x in rng.integers(0, 230, (50, 2)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_and_threads_read_alike(copy, method):
    reader = ConvertedReader(copy)
    wanted = [checksum(reader, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(checksum, [reader] * 4, range(4))) == wanted
    with multiprocessing.get_context(method).Pool(2) as processes:
        assert processes.starmap(checksum, [(pickle.loads(pickle.dumps(reader)), seed) for seed in range(4)]) == wanted


def test_the_head_is_as_documented(copy):
    data = copy.read_bytes()
    assert data[:16] == MAGIC
    assert struct.unpack_from("<Q", data, 24)[0] == len(data)
    assert numpy_type(ConvertedReader(copy).header.dtype) == np.uint8


@pytest.mark.parametrize("tile", [(240, 240), (5, 900), (700, 900), None])
def test_blocks_fit_the_sources_tiles_and_memory(make, tmp_path, monkeypatch, tile):
    """Windows are read once each, of whole tiles where one fits, and cover the image."""
    monkeypatch.setattr(conversion, "_BLOCK", 128)
    monkeypatch.setattr(conversion, "_BLOCK_BYTES", 700 * 1024 * 3)
    source = make(tile_sizes=(tile,))
    seen = np.zeros((700, 900), int)
    read = type(source)._read_window

    def note(self, handle, level, y, x, height, width):
        seen[y : y + height, x : x + width] += 1
        assert height * width <= 700 * 1024
        return read(self, handle, level, y, x, height, width)

    monkeypatch.setattr(type(source), "_read_window", note)
    copy = ConvertedReader(convert(source, tmp_path / "copy", tile=32))
    assert (seen == 1).all()
    assert np.array_equal(pixels_of(copy), np.load(source.path))

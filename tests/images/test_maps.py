"""PinnedImage.from_memmap: no copy, no read-ahead, no write to the file, no read behind its end."""

import gc
import mmap
import os
import re
import warnings

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import PinnedImage, host_module

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 29, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "pixels ü.raw"
    path.write_bytes(bytes(16) + PIXELS.tobytes())
    return path


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "pixels.npy"
    np.save(path, PIXELS)
    return path


def kernel_flags(address):
    """What the kernel notes about the mapping at an address: ``wr`` for writable, ``rr`` for read in no order."""
    inside = False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(match[1], 16) <= address < int(match[2], 16)
            elif inside and line.startswith("VmFlags:"):
                return line.split()
    raise AssertionError("no mapping holds the address")


needs_smaps = pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="the kernel does not list its mappings")


def test_a_raw_file_is_viewed_in_place(raw):
    image = PinnedImage.from_memmap(raw, PIXELS.shape, np.uint8, offset=16)

    assert image.tensor.stride() == (1, 29 * 3, 3)
    assert np.array_equal(image.tensor.numpy(), PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize(("layout", "axes"), [("HWC", (2, 0, 1)), ("CHW", (0, 1, 2))])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_tells_its_own_shape_type_and_order(tmp_path, layout, axes, dtype, order):
    array = np.asarray(PIXELS.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)

    tensor = PinnedImage.from_memmap(str(tmp_path / "a.npy"), layout=layout).tensor

    assert np.array_equal(tensor.numpy(), array.transpose(axes))


def test_writing_to_the_tensor_of_a_file_leaves_the_file_alone(npy):
    before = npy.read_bytes()
    image = PinnedImage.from_memmap(npy)

    image.tensor.zero_()

    assert not image.tensor.any()
    assert npy.read_bytes() == before


@needs_smaps
def test_a_read_only_map_is_viewed_in_silence_and_stays_read_only(raw):
    array = np.memmap(raw, np.uint8, "r", offset=16, shape=PIXELS.shape)

    image = PinnedImage.from_memmap(array)

    assert image.tensor.data_ptr() == array.ctypes.data
    assert not array.flags.writeable
    assert "wr" not in kernel_flags(image.tensor.data_ptr())


def test_a_shared_map_shows_what_its_owner_writes(raw):
    array = np.memmap(raw, np.uint8, "r+", offset=16, shape=PIXELS.shape)
    image = PinnedImage.from_memmap(array)

    array[3, 4] = (1, 2, 3)

    assert image.tensor[:, 3, 4].tolist() == [1, 2, 3]


def test_a_cut_of_a_map_is_viewed_in_place(raw):
    cut = np.memmap(raw, np.uint8, "r", offset=16, shape=PIXELS.shape)[5:30:2, 3:-1]

    image = PinnedImage.from_memmap(cut)

    assert image.tensor.data_ptr() == cut.ctypes.data
    assert np.array_equal(image.tensor.numpy(), PIXELS[5:30:2, 3:-1].transpose(2, 0, 1))


@pytest.mark.parametrize("given", ["path", "map"])
def test_the_tensor_keeps_the_map_alive(npy, given):
    tensor = PinnedImage.from_memmap(npy if given == "path" else np.load(npy, mmap_mode="r")).tensor
    gc.collect()

    assert np.array_equal(tensor.numpy(), PIXELS.transpose(2, 0, 1))


@needs_smaps
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("given", ["path", "map", "cut"])
def test_read_ahead_is_turned_off(npy, given, compiled, monkeypatch):
    if compiled and host_module() is None:
        pytest.skip("zoomkern._host is not built")
    if not compiled:
        monkeypatch.setattr("zoomkern.images.maps.host_module", lambda: None)
    array = {"path": npy, "map": np.load(npy, mmap_mode="r"), "cut": np.load(npy, mmap_mode="r")[::-1][::-1][9:]}[given]
    if given != "path":
        assert "rr" not in kernel_flags(array.ctypes.data)

    image = PinnedImage.from_memmap(array)

    assert "rr" in kernel_flags(image.tensor.data_ptr())


def test_a_large_sparse_map_becomes_resident_only_where_it_is_read(tmp_path):
    path = tmp_path / "sparse.raw"
    shape = (40_000, 40_000, 3)
    with path.open("wb") as file:
        file.truncate(40_000 * 40_000 * 3)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    image = PinnedImage.from_memmap(path, shape, np.uint8)
    before = resident()
    total = int(image.tensor[:, 39_000:39_064, 39_000:39_064].sum(dtype=torch.int64))

    assert total == 0
    assert resident() - before < 16 << 20


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "shape and dtype must be given for .*pixels ü.raw"),
        ({"shape": (37, 29, 3), "dtype": "u2"}, ValueError, "must hold 6438 bytes .* of uint16; got .*of 3235 bytes"),
        ({"shape": (37, 29, 3), "dtype": "u1", "offset": 17}, ValueError, "must hold 3236 bytes"),
        ({"shape": (1 << 40, 1 << 40, 3), "dtype": "u1"}, ValueError, "must hold 3626777458843887524118528 bytes"),
        ({"shape": (37, -29, 3), "dtype": "u1"}, ValueError, r"shape\[1\] must be between 1"),
        ({"shape": (37, 29, 3), "dtype": "u1", "offset": -1}, ValueError, "offset must be between 0"),
        (
            {"shape": (7, 9, 3), "dtype": "u2", "offset": 3},
            ValueError,
            "offset must be a multiple of 2 bytes for uint16; got",
        ),
        ({"shape": (37, 29, 3), "dtype": "i8"}, TypeError, "dtype must be one of .*got int64"),
        ({"shape": (7, 9, 3), "dtype": ">u2"}, TypeError, "machine's byte order"),
        ({"shape": (37, 29), "dtype": "u1"}, ValueError, "array must have the dimensions HWC"),
    ],
)
def test_what_does_not_fit_the_file_is_refused_before_it_is_read(raw, arguments, error, message):
    with pytest.raises(error, match=message):
        PinnedImage.from_memmap(raw, **arguments)


@pytest.mark.parametrize("kept", [0, 5, 100, 3000])
def test_a_truncated_npy_file_is_refused(npy, kept):
    os.truncate(npy, kept)

    with pytest.raises(ValueError, match="array_or_path must be a whole .npy file"):
        PinnedImage.from_memmap(npy)


@pytest.mark.parametrize("cut", [slice(None), slice(20, None)])
def test_a_map_whose_file_was_truncated_is_refused(raw, cut):
    array = np.memmap(raw, np.uint8, "r", offset=16, shape=PIXELS.shape)
    os.truncate(raw, 16 + 20 * 29 * 3)

    assert PinnedImage.from_memmap(array[:20]).height == 20
    with pytest.raises(ValueError, match="must hold 3235 bytes .* of 1756 bytes"):
        PinnedImage.from_memmap(array[cut])


def test_other_things_than_maps_and_paths_are_refused(npy, tmp_path):
    array = np.load(npy, mmap_mode="r")
    np.savez(tmp_path / "archive.npz", PIXELS)
    os.rename(tmp_path / "archive.npz", tmp_path / "archive.npy")
    for given, error, message in [
        (PIXELS, TypeError, "array_or_path must be a numpy.memmap; got numpy.ndarray"),
        (3, TypeError, "array_or_path must be a path; got int"),
        (tmp_path, FileNotFoundError, "must name a file"),
        (tmp_path / "archive.npy", ValueError, "an archive"),
        (array[::-1], ValueError, "no negative strides"),
        (np.memmap.copy(array), ValueError, "must still be a view of its map"),
    ]:
        with pytest.raises(error, match=message):
            PinnedImage.from_memmap(given)
    with pytest.raises(ValueError, match="left to the numpy.memmap"):
        PinnedImage.from_memmap(array, shape=(3, 3, 3))
    with pytest.raises(ValueError, match="left to the header"):
        PinnedImage.from_memmap(npy, dtype="u1")


def test_a_file_that_was_truncated_under_its_map_is_an_error(tmp_path):
    path = tmp_path / "image.npy"
    np.save(path, np.zeros((400, 500, 3), np.uint8))
    image = PinnedImage.from_memmap(path)
    offsets = torch.tensor([[[390, 0]]])
    zoomkern.gather_patches([image], offsets, 8)
    os.truncate(path, 4096)
    with pytest.raises(ValueError, match="600128 bytes were mapped, the file now has 4096"):
        zoomkern.gather_patches([image], offsets, 8)

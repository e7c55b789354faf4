"""read_coordinates: the files of CLAM and TRIDENT, and those that are none."""

import builtins

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import read_coordinates

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

XY = np.array([[0, 512], [1024, 0], [171_103, 88_000]])


def saved(path, coords=XY, **attributes):
    with h5py.File(path, "w") as file:
        written = file.create_dataset("coords", data=coords, maxshape=(None, *np.shape(coords)[1:]), chunks=True)
        written.attrs.update(attributes)
    return path


CLAM = {"patch_size": 256, "patch_level": 1, "downsample": (4.000122, 4.0), "level_dim": (500, 400), "name": "slide"}
TRIDENT = {"patch_size": 512, "patch_size_level0": 1024, "level0_magnification": 40, "target_magnification": 20}


@pytest.mark.parametrize(
    ("attributes", "extent"),
    [
        (CLAM, (1024, 1024)),
        ({"patch_size": 256, "patch_level": 0}, (256, 256)),
        ({"patch_size": 256, "patch_level": 1, "downsample": 2.0}, (512, 512)),
        ({"patch_size": 256, "patch_level": 1, "downsample": (2.0, 3.0)}, (768, 512)),
        (TRIDENT, (1024, 1024)),
    ],
)
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint32])
def test_places_turn_and_know_what_they_span(tmp_path, attributes, extent, kind):
    places = read_coordinates(saved(tmp_path / "slide.h5", XY.astype(kind), **attributes))

    assert places.locations.dtype == torch.int64
    assert places.locations.tolist() == [[512, 0], [0, 1024], [88_000, 171_103]]
    assert places.locations.is_contiguous()
    assert places.extent == extent


def test_they_are_candidates_of_the_sampler(tmp_path):
    image = torch.arange(2 * 40 * 60).remainder(251).to(torch.uint8).reshape(2, 40, 60)
    places = read_coordinates(saved(tmp_path / "slide.h5", np.array([[5, 1], [30, 20]]), patch_size=8, patch_level=0))

    drawn = zoomkern.sample_patches([image], torch.zeros(1, 2), 2, places.extent, locations=places.locations, seed=0)

    for patch, (y, x) in zip(drawn.patches[0], drawn.offsets[0].tolist(), strict=True):
        assert torch.equal(patch, image[:, y : y + 8, x : x + 8].float())


@pytest.mark.parametrize(
    "attributes", [{}, {"patch_size": 256, "patch_level": 1}, {"patch_size": "large"}, {"patch_size": 0}]
)
def test_a_file_that_does_not_say_needs_the_extent(tmp_path, attributes):
    path = saved(tmp_path / "slide.h5", **attributes)

    with pytest.raises(ValueError, match=r"must say what a patch spans at level 0.*Pass extent="):
        read_coordinates(path)
    assert read_coordinates(path, extent=(10, 20)).extent == (10, 20)


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (XY.astype(np.float32), "whole numbers as coords; got float32"),
        (XY.astype(bool), "whole numbers as coords; got bool"),
        (XY - 1, r"coords from 0 to 2147483647; got -1 to 171102"),
        (XY.astype(np.uint64) + (1 << 63), "coords from 0 to"),
        (XY[:, :1], r"\[L, 2\], an \(x, y\) per patch; got \(3, 1\)"),
        (XY[None], r"got \(1, 3, 2\)"),
        (XY[:0], r"got \(0, 2\)"),
    ],
)
def test_bad_coordinates_are_answered(tmp_path, coords, message):
    with pytest.raises(ValueError, match=message):
        read_coordinates(saved(tmp_path / "slide.h5", coords, **CLAM))


def test_a_file_without_coordinates_says_what_it_has(tmp_path):
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        file["features"] = np.zeros((3, 8))
    with pytest.raises(ValueError, match=r"must have a data set coords; it has \['features'\]"):
        read_coordinates(tmp_path / "slide.h5")
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        file.create_group("coords")
    with pytest.raises(ValueError, match="must have a data set coords"):
        read_coordinates(tmp_path / "slide.h5")


def test_a_header_that_lies_takes_no_memory(tmp_path):
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        file.create_dataset("coords", (1 << 40, 2), np.int64, chunks=(1024, 2)).attrs.update(CLAM)

    with pytest.raises(ValueError, match=r"got \(1099511627776, 2\)"):
        read_coordinates(tmp_path / "slide.h5")


def test_damaged_files_are_answered(tmp_path):
    whole = saved(tmp_path / "slide.h5", np.arange(40_000).reshape(-1, 2), **CLAM).read_bytes()
    bad = tmp_path / "bad.h5"
    for content in (b"", b"no HDF5 at all", whole[:300], whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.h5' must be a whole HDF5 file"):
            read_coordinates(bad)
    random = np.random.default_rng(0)
    for at in random.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[at] ^= 255
        bad.write_bytes(flipped)
        try:
            read_coordinates(bad)
        except ValueError as error:
            assert "bad.h5" in str(error)  # noqa: PT017
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        read_coordinates(tmp_path / "nothing.h5")


def test_without_h5py_a_sentence_says_so(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "h5py":
            raise ImportError("no h5py")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ImportError, match="pip install h5py"):
        read_coordinates(tmp_path / "slide.h5")

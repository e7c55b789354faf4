"""Levels that are read when asked for: the same pixels as in memory, whatever holds them."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import Pyramid
from zoomkern.images.readers import Header, Reader, ReadError
from zoomkern.images.scaling import MOST_BYTES, scaled
from zoomkern.images.stored import FileLevel, ReducedLevel, StoredLevel, TiledLevel
from zoomkern.images.tiles import TileCache

TILE = (32, 48)


class ArrayReader(Reader):
    """Two levels of an .npy file: one of tiles, one without; a tile whose first byte is 255 is damaged."""

    def _open(self) -> Any:
        return np.load(self.path)

    def _read_header(self, handle: Any) -> Header:
        height, width, channels = handle.shape
        sizes = ((width, height), (width // 2, height // 2))
        return Header(sizes, channels, torch.from_numpy(handle[:1, :1]).dtype, (TILE, None), background=7)

    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        pixels = handle if level == 0 else handle[1::2, 1::2]
        return pixels[y : y + height, x : x + width]

    def _tile_bytes(self, handle: Any, level: int, row: int, column: int) -> bytes:
        tile = np.zeros((*TILE, handle.shape[2]), handle.dtype)
        part = handle[row * TILE[0] : (row + 1) * TILE[0], column * TILE[1] : (column + 1) * TILE[1]]
        tile[: part.shape[0], : part.shape[1]] = part
        return bytes([0]) + tile.tobytes()

    def _decode_tile(self, handle: Any, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        if data is None or data[0]:
            raise KeyError("no tile")
        return np.frombuffer(data, handle.dtype, offset=1).reshape(*TILE, -1)


@pytest.fixture(params=[np.uint8, np.uint16, np.float32])
def pixels(request: pytest.FixtureRequest) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(5).integers(0, 256, (151, 203, 3))
    return values.astype(request.param)


@pytest.fixture
def reader(pixels: np.ndarray[Any, Any], tmp_path: Path) -> ArrayReader:
    np.save(tmp_path / "image.npy", pixels)
    return ArrayReader(tmp_path / "image.npy")


def resident(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize("where", ["auto", "resident", "disk", ("compressed", "disk"), ("disk", "resident")])
@pytest.mark.parametrize(
    "reading",
    [
        {},
        {"padding_mode": "shift"},
        {"step": 3, "align": "corners"},
        {"step": 7, "padding_mode": "shift"},
        {"dtype": torch.float16, "memory_format": torch.channels_last, "mean": 0.5, "std": [0.2, 0.3, 0.4]},
    ],
)
def test_patches_are_those_of_an_image_in_memory(pixels, reader, where, reading, backend, monkeypatch):
    monkeypatch.setattr("zoomkern.images.staging.SLOT_BYTES", 20000)  # so that slots are used again
    pyramid = Pyramid.open(reader, where=where)
    logits = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(1))
    given = {"seed": 3, "fill": 2.5, "backend": backend, **reading}
    got = zoomkern.sample_patches([pyramid, resident(pixels)], logits, 20, (30, 40), **given)
    wanted = zoomkern.sample_patches([resident(pixels)] * 2, logits, 20, (30, 40), **given)
    for name, one, other in zip(got._fields, got, wanted, strict=True):
        assert torch.equal(one, other), name
        assert one.stride() == other.stride(), name
    out = torch.empty_like(got.patches)
    reading = {name: value for name, value in given.items() if name not in ("seed", "align")}
    zoomkern.gather_patches([pyramid, pyramid], got.offsets, (30, 40), out=out, **reading)
    assert torch.equal(out, wanted.patches)


def test_places_of_a_list_and_padded_draws_are_read_alike(pixels, reader, backend):
    pyramid = Pyramid.open(reader, where="disk")
    places = torch.tensor([[-500, 0], [-3, 190], [100, 100], [140, -20]])
    given = {"locations": places, "mask": torch.tensor([[True, True, False, True]]), "on_short": "pad"}
    got = zoomkern.sample_patches([pyramid], torch.zeros(1, 4), 4, 25, seed=1, backend=backend, **given)
    wanted = zoomkern.sample_patches([resident(pixels)], torch.zeros(1, 4), 4, 25, seed=1, backend=backend, **given)
    assert (got.index == -1).sum() == 1
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))


def test_the_draw_stays_differentiable(reader):
    logits = torch.zeros(1, 5, 5, requires_grad=True)
    drawn = zoomkern.sample_patches([Pyramid.open(reader, where="disk")], logits, 3, 8, seed=0)
    drawn.log_prob.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert not drawn.patches.requires_grad


def test_a_level_is_named_as_in_a_resident_pyramid(pixels, reader):
    pyramid = Pyramid.open(reader, where="disk")
    offsets = torch.tensor([[[3, 5]]])
    got = zoomkern.gather_patches([pyramid], offsets, 9, level=1)
    assert torch.equal(got[0, 0], resident(pixels[1::2, 1::2])[:, 3:12, 5:14].float())
    with pytest.raises(ValueError, match="level must be from 0 to 1"):
        zoomkern.gather_patches([pyramid], offsets, 9, level=2)
    with pytest.raises(ValueError, match="level must be left out"):
        zoomkern.gather_patches([pyramid.levels[0]], offsets, 9, level=0)


def test_auto_makes_the_coarse_levels_resident(pixels, reader):
    assert [isinstance(level, StoredLevel) for level in Pyramid.open(reader).levels] == [False, False]
    small = pixels[::2, ::2].nbytes
    assert [isinstance(level, StoredLevel) for level in Pyramid.open(reader, memory=small).levels] == [True, False]
    assert [isinstance(level, StoredLevel) for level in Pyramid.open(reader, memory=1).levels] == [True, True]


def test_a_place_that_no_level_can_have_is_refused(reader):
    with pytest.raises(ValueError, match="where must be one of 'auto', 'resident', 'compressed', 'disk'; got 'ram'"):
        Pyramid.open(reader, where="ram")
    with pytest.raises(ValueError, match="where must name 2 places"):
        Pyramid.open(reader, where=["disk"])
    with pytest.raises(ValueError, match="level 1 of .* must have tiles of its own"):
        Pyramid.open(reader, where="compressed")


def test_an_image_that_needs_a_gradient_is_refused_beside_a_stored_one(reader, pixels):
    if pixels.dtype != np.float32:
        return
    image = resident(pixels.copy()).requires_grad_()
    with pytest.raises(ValueError, match="must not require a gradient beside stored ones"):
        zoomkern.gather_patches([Pyramid.open(reader, where="disk"), image], torch.zeros(2, 1, 2).long(), 4)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_reduced_level_is_made_of_means(pixels, reader, factor, monkeypatch):
    monkeypatch.setattr("zoomkern.images.stored._BLOCK_PIXELS", 500)
    level = ReducedLevel(FileLevel(reader, 0), factor)
    height, width = level.shape[1:]
    assert (height, width) == (-(-151 // factor), -(-203 // factor))
    for y, x in [(0, 0), (height // 2, width - 1), (height - 1, width // 3), (height - 1, width - 1)]:
        under = pixels[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].astype(np.float64)
        mean = under.mean(axis=(0, 1))
        wanted = np.rint(mean) if pixels.dtype.kind == "u" else mean
        assert np.allclose(level.read(y, x, 1, 1)[0, 0], wanted, rtol=1e-7)
    assert np.array_equal(
        level.read(0, 0, height, width), ReducedLevel(resident(pixels), factor).read(0, 0, height, width)
    )
    assert np.array_equal(level.read(3, 4, 11, 13), level.read(0, 0, height, width)[3:14, 4:17])


def test_halving_twice_is_what_pyramids_are_built_by(pixels):
    built = Pyramid.build(resident(pixels), levels=2)
    assert torch.equal(ReducedLevel(resident(pixels), 2).whole(), built[1])


def test_a_scale_is_a_level_or_made_of_one(reader):
    pyramid = Pyramid.open(reader, where="disk")
    assert pyramid.at_scale(1.0) is pyramid.levels[0]
    assert pyramid.at_scale(0.5) is pyramid.levels[1]
    quarter = pyramid.at_scale(0.25)
    assert isinstance(quarter, ReducedLevel)
    assert quarter.finer is pyramid.levels[1]
    fifth = pyramid.at_scale(0.2)
    assert isinstance(fifth, ReducedLevel)
    assert fifth.finer is pyramid.levels[0]
    assert fifth.factor == 5
    with pytest.raises(ValueError, match="scale must be that of a level, or a whole part of one; got 0.7"):
        pyramid.at_scale(0.7)


def test_a_small_copy_is_that_of_the_pixels(reader, pixels):
    assert pixels.nbytes < MOST_BYTES
    assert torch.equal(scaled(Pyramid([FileLevel(reader, 0)]), (20, 30)), scaled(resident(pixels), (20, 30)))


def test_a_small_copy_of_a_large_level_is_made_in_two_steps(tmp_path, monkeypatch):
    monkeypatch.setattr("zoomkern.images.scaling.MOST_BYTES", 1)
    y, x = np.mgrid[:301, :407]
    smooth = (127 + 60 * np.sin(x / 40) + 60 * np.cos(y / 30)).astype(np.float32)[:, :, None]
    np.save(tmp_path / "image.npy", smooth)
    two_steps = scaled(Pyramid([FileLevel(ArrayReader(tmp_path / "image.npy"), 0)]), (20, 30))
    assert (
        two_steps - scaled(resident(smooth), (20, 30))
    ).abs().max() < 1.5  # of 255; the last row of means is of one row of pixels, and weighs as six


def test_damage_is_told_by_the_reader_with_the_name_of_the_file(reader, monkeypatch):
    pyramid = Pyramid.open(reader, where="disk")
    monkeypatch.setattr(ArrayReader, "_tile_bytes", lambda *_: None)
    with pytest.raises(ReadError, match=r"reading .*image.npy' failed: KeyError"):
        zoomkern.gather_patches([pyramid], torch.zeros(1, 2, 2).long(), 4)


def test_tiles_are_decoded_once_for_all_patches(reader, monkeypatch):
    decoded: list[int] = []
    original = ArrayReader._decode_tile
    monkeypatch.setattr(ArrayReader, "_decode_tile", lambda *given: decoded.append(1) or original(*given))
    pyramid = Pyramid.open(reader, where="disk")
    zoomkern.gather_patches([pyramid], torch.full((1, 50, 2), 3), 20)
    assert len(decoded) == 1


def test_levels_travel_without_tiles_and_handles(reader, pixels):
    pyramid = Pyramid.open(reader, where=["compressed", "disk"], cache=1 << 20)
    pyramid.levels[0].read(0, 0, 9, 9)
    copy = pickle.loads(pickle.dumps(pyramid))
    assert len(copy.levels[0].cache) == 0
    assert isinstance(copy.levels[0], TiledLevel)
    assert torch.equal(copy[0], resident(pixels))
    assert torch.equal(copy[1], pyramid[1])


def test_a_cache_keeps_what_was_used_last():
    cache = TileCache(100)
    for key in "abc":
        cache.get(key, lambda: np.zeros(40, np.uint8))
    assert len(cache) == 2
    assert cache.nbytes == 80
    cache.get("b", pytest.fail)
    cache.get("d", lambda: np.zeros(30, np.uint8))
    cache.get("b", pytest.fail)
    assert (cache.hits, cache.misses, cache.nbytes) == (2, 4, 70)
    cache.get("large", lambda: np.zeros(500, np.uint8))
    assert len(cache) == 1
    assert cache.nbytes == 500


def test_threads_that_want_one_tile_wait_for_whoever_decodes_it():
    cache, started, finish, calls = TileCache(1 << 20), threading.Event(), threading.Event(), []

    def decode() -> np.ndarray[Any, Any]:
        calls.append(1)
        started.set()
        assert finish.wait(10)
        return np.ones(3)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get, "tile", decode) for _ in range(4)]
        assert started.wait(10)
        finish.set()
        assert all(future.result() is futures[0].result() for future in futures)
    assert len(calls) == 1


def test_a_failed_decode_is_tried_again():
    cache = TileCache(100)
    with pytest.raises(OSError, match="once"):
        cache.get("tile", lambda: (_ for _ in ()).throw(OSError("once")))
    assert cache.get("tile", lambda: np.ones(2)).sum() == 2


@pytest.mark.parametrize("reading", [{}, {"padding_mode": "shift", "step": 2, "mean": 0.5, "std": 0.5}])
def test_batches_of_patches_are_those_patches(pixels, reader, reading):
    offsets = torch.randint(-20, 200, (2, 23, 2), generator=torch.Generator().manual_seed(4))
    images = [Pyramid.open(reader, where="disk"), resident(pixels)]
    wanted = zoomkern.gather_patches([resident(pixels)] * 2, offsets, (9, 12), **reading).flatten(0, 1)
    for given in (images, images[1:] * 2):
        batches = list(zoomkern.patch_batches(given, offsets, (9, 12), 10, **reading))
        assert [len(batch) for batch in batches] == [10, 10, 10, 10, 6]
        assert torch.equal(torch.cat(batches), wanted)


def test_a_caller_that_stops_early_leaves_no_work_behind(reader):
    for _ in zoomkern.patch_batches([Pyramid.open(reader, where="disk")], torch.zeros(1, 500, 2).long(), 30, 2):
        break
    with pytest.raises(ValueError, match="images must be one for each of the 2 rows"):
        next(zoomkern.patch_batches([Pyramid.open(reader, where="disk")], torch.zeros(2, 5, 2).long(), 30, 2))


def test_a_reduced_level_decodes_every_tile_once(reader, monkeypatch):
    decoded: list[int] = []
    original = ArrayReader._decode_tile
    monkeypatch.setattr(ArrayReader, "_decode_tile", lambda *given: decoded.append(1) or original(*given))
    monkeypatch.setattr("zoomkern.images.stored._BLOCK_PIXELS", 4000)
    ReducedLevel(TiledLevel(reader, 0, TileCache(1 << 14)), 4).whole()
    assert len(decoded) == 5 * 5  # 151 x 203 pixels in tiles of 32 x 48


def test_images_share_a_cache_unless_they_are_given_one(reader):
    one, other = Pyramid.open(reader, where="disk"), Pyramid.open(reader, where="disk")
    assert one.levels[0].cache is other.levels[0].cache
    assert pickle.loads(pickle.dumps(one)).levels[0].cache is one.levels[0].cache
    assert Pyramid.open(reader, where="disk", cache=5).levels[0].cache.max_bytes == 5


def test_an_unknown_scale_names_the_file(reader):
    with pytest.raises(ValueError, match=r"mpp=0.5 needs the mpp of '.*image.npy'"):
        Pyramid.open(reader).level_for(mpp=0.5)


def test_no_places_at_all_are_padding(reader):
    nowhere = torch.zeros(0, 2, dtype=torch.int64)
    pyramid = Pyramid.open(reader, where="disk")
    drawn = zoomkern.sample_patches([pyramid], torch.zeros(1, 0), 2, 4, locations=nowhere, on_short="pad", fill=3)
    assert drawn.index.tolist() == [[-1, -1]]
    assert (drawn.patches == 3).all()

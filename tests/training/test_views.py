import os
import pickle
import sys
from copy import deepcopy
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from zoomkern.data import ImageSet
from zoomkern.images import PinnedImage, Pyramid
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.training.augmentation import Augmentation
from zoomkern.training.batches import chosen, collate
from zoomkern.training.order import LookingBatches
from zoomkern.training.views import AugmentedImages, ViewedImages, Views


def test_views_are_made_once_where_images_are_resident(small):
    images = small.Squares()
    viewed = ViewedImages(images, Views(0.25, None, 0.5), seed=3)
    first = viewed[4, 0]
    again = viewed[4, 1]
    assert images.made == 1
    assert again.view is first.view
    assert again.tile_view is first.tile_view
    assert again.seed != first.seed
    loose = ViewedImages(images, Views(0.25, None, 0.5), seed=3, resident=False)
    assert loose[4, 0].seed == first.seed
    assert loose[4, 0].view is not loose[4, 0].view


def test_views_have_the_sizes_asked_for(small):
    image = small.Squares().image(1)
    view, tile_view = Views(0.25, None, 0.5).make(image)
    assert (view.shape, tile_view.shape) == ((1, 12, 12), (1, 24, 24))
    view, tile_view = Views(None, (7, 9)).make(image)
    assert view.shape == (1, 7, 9)
    assert tile_view is image
    assert Views(0.25, None, 1.0).make(image)[1] is image
    assert scaled_size((10, 1), 0.01) == (1, 1)


def test_a_view_of_a_pyramid_reads_the_coarsest_level_that_suffices():
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    pyramid = Pyramid.build(image, levels=3)
    assert torch.equal(scaled(pyramid, (16, 16)), pyramid[2])
    assert torch.equal(scaled(pyramid, (20, 20)), scaled(pyramid[1], (20, 20)))
    assert torch.equal(scaled(pyramid, (8, 8)), scaled(pyramid[2], (8, 8)))
    assert torch.equal(scaled(pyramid, (64, 64)), image)


def test_scaling_is_the_mean_of_what_a_pixel_covers():
    image = torch.rand(1, 30, 30)
    one = scaled(image, (1, 1)).double()
    triangle = 1 - (torch.arange(30).double() + 0.5 - 15).abs() / 30  # as wide as two output pixels
    weights = triangle / triangle.sum()
    assert torch.allclose(one, torch.einsum("chw,h,w->c", image.double(), weights, weights)[:, None, None], atol=1e-6)


@pytest.mark.parametrize("size", [(9, 11), (37, 20), (50, 90), (1, 1)])
@pytest.mark.parametrize("band", [1, 200, 1 << 20])
def test_sixteen_bits_are_scaled_as_float32_is(monkeypatch, size, band):
    """Whatever number of rows is converted at a time; rounded at the end, and of eight bits the same but for that."""
    monkeypatch.setattr("zoomkern.images.scaling._BAND_PIXELS", band)
    eight = torch.randint(0, 256, (37, 53, 3), dtype=torch.uint8).permute(2, 0, 1)
    image = (257 * eight.int()).to(torch.uint16)
    small = scaled(image, size)
    assert (small.dtype, small.is_contiguous()) == (torch.uint16, True)
    assert torch.equal(small.float(), scaled(image.float(), size).round())
    assert (small.int() - 257 * scaled(eight, size).int()).abs().max() <= 257
    assert torch.equal(scaled(PinnedImage(image), size).int(), small.int())
    full = torch.full((1, 40, 40), 65535, dtype=torch.int32).to(torch.uint16)
    assert (scaled(full, size).int() == 65535).all()


@pytest.mark.parametrize("side", [2, 3, 4, 40])
def test_one_pixel_is_the_mean_of_all(side):
    image = torch.randint(256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(side))
    assert torch.equal(scaled(image, (1, 1)), scaled(image.float(), (1, 1)).round().to(torch.uint8))


def test_sixteen_bits_that_are_stored_are_scaled_in_two_steps(monkeypatch, tmp_path):
    image = np.random.default_rng(0).integers(0, 1 << 16, (85, 119, 2), np.uint16)
    np.save(tmp_path / "words.npy", image)
    np.save(tmp_path / "floats.npy", image.astype(np.float64))
    monkeypatch.setattr("zoomkern.images.scaling.MOST_BYTES", 1000)
    words, floats = (
        scaled(Pyramid.open(tmp_path / f"{name}.npy", where="disk"), (10, 14)) for name in ("words", "floats")
    )
    assert words.dtype == torch.uint16
    assert (words.double() - floats).abs().max() < 1.01  # each step rounds once


@pytest.mark.parametrize("bad", [torch.zeros(3, 4), torch.zeros(1, 1, 4, 4)])
def test_scaling_refuses_what_is_no_image(bad):
    with pytest.raises(ValueError, match=r"image must be \[C, H, W\]; got"):
        scaled(bad, (2, 2))
    with pytest.raises(TypeError, match=r"image must be uint8, uint16 or floating point; got torch.int32"):
        scaled(torch.zeros(1, 4, 4, dtype=torch.int32), (2, 2))


def test_batches_and_their_parts(small):
    viewed = ViewedImages(small.Squares(), Views(0.25, None, 0.5), seed=0)
    batch = collate([viewed[i, 2] for i in (3, 0, 5)])
    assert batch.classes == (1, 0, 1)
    assert batch.labels.tolist() == [1, 0, 1]
    assert batch.index.tolist() == [3, 0, 5]
    assert batch.noise == int(batch.seed[0])
    part = chosen(batch, [0, 2])
    assert part.classes == (1, 1)
    assert part.index.tolist() == [3, 5]
    assert part.view.shape == (2, 1, 12, 12)
    assert part.images[1] is batch.images[2]
    assert part.noise == batch.noise
    assert chosen(batch, [0, 1, 2]) is batch


def test_views_of_different_sizes_share_no_batch(small):
    one = ViewedImages(small.Squares(), Views(0.25), seed=0)[0, 0]
    other = ViewedImages(small.Squares(), Views(0.5), seed=0)[0, 0]
    with pytest.raises(ValueError, match=r"views of a batch must have one size.*view_size=\(h, w\)"):
        collate([one, other])


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda image: image.expand(3, -1, -1), "3 of torch.uint8"), (lambda image: image.half(), "1 of torch.float16")],
)
def test_images_of_one_set_are_of_one_kind(small, change, said):
    class Mixed(small.Squares):
        def image(self, index):
            return change(super().image(index)) if index == 5 else super().image(index)

    images = ViewedImages(Mixed(), Views(0.25), seed=0)
    images.load(range(5))
    with pytest.raises(ValueError, match=f"'squares/5' has {said}, 'squares/0' has 1 of torch.uint8. Convert"):
        images[5, 0]


def test_half_precision_is_scaled_as_float32_is():
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(scaled(image, (13, 9)), scaled(image.float(), (13, 9)).half())


def test_items_reach_worker_processes(small):
    viewed = ViewedImages(small.Squares(), Views(0.25, None, 0.5), seed=0)
    assert len(viewed) == len(AugmentedImages(viewed, lambda item: item)) == 12
    assert torch.equal(pickle.loads(pickle.dumps(viewed[2, 0])).view, viewed[2, 0].view)


def test_loading_makes_images_resident_once(small, capsys):
    images = small.Squares()
    viewed = ViewedImages(images, Views(0.25, None, 0.5), seed=0)
    viewed.load([1, 2, 3])
    viewed.load([2, 3, 4], progress=True)
    assert images.made == 4
    assert "loading" in capsys.readouterr().err
    viewed.load([1, 2], progress=True)  # nothing is missing, so there is nothing to show
    assert not capsys.readouterr().err
    loose = ViewedImages(images, Views(0.25), seed=0, resident=False)
    loose.load([1])
    assert images.made == 4


class Pinned(ImageSet):
    """Notes who decodes which image."""

    def __init__(self, log):
        names = [f"{i}" for i in range(6)]
        super().__init__(["one"], names, [0] * 6)
        self.log = log

    def image(self, index):
        with open(self.log, "a") as file:
            print(os.getpid(), index, file=file)
        return PinnedImage(torch.full((3, 40, 50), index, dtype=torch.uint8))

    def size(self, index):
        return 40, 50


def loaded(viewed, workers=2, images=None):
    return list(
        DataLoader(
            images or viewed,
            batch_sampler=LookingBatches(range(6), 2),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
    )


def test_workers_send_the_names_of_resident_images(tmp_path):
    """Nothing is decoded twice, and the batch holds the training process's own memory."""
    log = tmp_path / "log"
    viewed = ViewedImages(Pinned(log), Views(0.5, None, 0.5), seed=0)
    viewed.load(range(6))
    for _ in range(2):
        batches = loaded(viewed)
        images = [image for batch in batches for image in batch.images]
        tiles = [tile for batch in batches for tile in batch.tile_view]
        assert [image is viewed.plain(i).image for i, image in enumerate(images)] == [True] * 6
        assert [tile is viewed.plain(i).tile_view for i, tile in enumerate(tiles)] == [True] * 6
    assert log.read_text().splitlines() == [f"{os.getpid()} {i}" for i in range(6)]
    for mine, theirs in zip(loaded(viewed, 0), batches, strict=True):
        assert torch.equal(mine.view, theirs.view)
        assert torch.equal(mine.seed, theirs.seed)


@pytest.mark.parametrize("views", [Views(0.5, None, 0.5), Views(0.5)])
@pytest.mark.parametrize("workers", [0, 2])
def test_views_alone_stay_in_memory(tmp_path, views, workers):
    """Images are decoded at each visit, by whoever looks at them; views are those that were made at first."""
    log = tmp_path / "log"
    viewed = ViewedImages(Pinned(log), views, seed=0, resident="views")
    viewed.load(range(6))
    made = [viewed.kept(i, "tile_view") for i in range(6)]
    assert [viewed.kept(i, "image") for i in range(6)] == [None] * 6
    first, again = loaded(viewed, workers), loaded(viewed, workers)
    for batches in (first, again):
        images = [image for batch in batches for image in batch.images]
        tiles = [tile for batch in batches for tile in batch.tile_view]
        assert [int(image.tensor.max()) for image in images] == list(range(6))
        if views.tile_scale is None:
            assert made == [None] * 6
            assert [tuple(tile.shape) for tile in tiles] == [(3, 40, 50)] * 6
        else:
            assert [tile is one for tile, one in zip(tiles, made, strict=True)] == [True] * 6
    assert torch.equal(torch.cat([b.view for b in first]), torch.stack([viewed.plain(i).view for i in range(6)]))
    decoded = log.read_text().splitlines()
    assert len(decoded) == 6 + 12 + 6  # loaded once, two epochs, and the line above
    mine = [line for line in decoded if line.startswith(f"{os.getpid()} ")]
    assert len(mine) == (12 if workers else 24)


def test_a_level_of_a_file_is_no_view_to_keep():
    class Stored(Pinned):
        def image(self, index):
            return Pyramid.build(torch.full((3, 8000, 9000), index, dtype=torch.uint8), levels=2)

    viewed = ViewedImages(Stored(os.devnull), Views(0.01, None, 0.5), seed=0, resident="views")
    first, again = viewed.plain(1), viewed.plain(1)
    assert viewed.kept(1, "tile_view") is None
    assert again.view is first.view
    assert again.tile_view.shape == first.tile_view.shape == (3, 4000, 4500)


def test_what_is_resident_is_one_of_three(small):
    with pytest.raises(ValueError, match="resident must be true, false or 'views'; got 'tiles'"):
        ViewedImages(small.Squares(), Views(0.25), seed=0, resident="tiles")


def test_workers_send_the_pixels_of_others(tmp_path):
    log = tmp_path / "log"
    viewed = ViewedImages(Pinned(log), Views(0.5, None, 0.5), seed=0)
    viewed.load([0, 1])
    images = [image for batch in loaded(viewed) for image in batch.images]
    assert images[0] is viewed.plain(0).image
    assert [int(image.tensor.max()) for image in images] == list(range(6))
    assert len(log.read_text().splitlines()) == 6
    assert not [line for line in log.read_text().splitlines()[2:] if line.startswith(f"{os.getpid()} ")]


def test_workers_change_resident_images_without_decoding_them(tmp_path):
    log = tmp_path / "log"
    viewed = ViewedImages(Pinned(log), Views(0.5, None, 0.5), seed=0)
    viewed.load(range(6))
    batches = loaded(viewed, images=AugmentedImages(viewed, Augmentation()))
    assert [int(image.max()) for batch in batches for image in batch.images] == list(range(6))
    assert len(log.read_text().splitlines()) == 6


@pytest.mark.parametrize("augmentation", [None, Augmentation(symmetries=False)])
def test_nothing_that_a_worker_keeps_is_sent(small, monkeypatch, augmentation):
    """What is sent moves to shared memory and keeps a file open: of a large set too many."""
    viewed = ViewedImages(small.Squares(), Views(0.5, None, 0.5), seed=0)
    viewed.load(range(4))
    kept = [viewed.plain(i) for i in range(4)]
    monkeypatch.setattr(torch.utils.data._utils.worker, "_worker_info", "a worker")  # as in one
    images = viewed if augmentation is None else AugmentedImages(viewed, augmentation)
    batch = collate([images[i, 0] for i in range(4)])
    ForkingPickler.dumps(batch)
    monkeypatch.undo()
    for item in kept:
        assert not any(part.is_shared() for part in (item.image, item.view, item.tile_view, item.objects, item.areas))
    there = pickle.loads(ForkingPickler.dumps(batch))
    assert [image is item.image for image, item in zip(there.images, kept, strict=True)] == [True] * 4
    assert all(torch.equal(boxes, item.objects) for boxes, item in zip(there.objects, kept, strict=True))


def resident_bytes(pid):
    """Memory that no other process shares, and that at least one does."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {name: 1024 * int(fields[name].split()[0]) for name in ("Private_Dirty", "Shared_Dirty")}


class Measured(AugmentedImages):
    """Reads every byte of an image, then says what memory that took."""

    def __getitem__(self, place):
        item = self.images.item(place)
        item.image.sum()
        return resident_bytes(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_share_the_pages_of_resident_images(small):
    megabytes = 256  # far above what a worker writes to of the process it forks from
    images = small.Squares(1)
    images.image = lambda index: torch.ones(1, 1024, megabytes * 1024, dtype=torch.uint8)
    viewed = ViewedImages(images, Views(0.01), seed=0)
    viewed.load([0])
    loader = DataLoader(
        Measured(viewed, Augmentation()),
        batch_sampler=[[(0, 0)]],
        collate_fn=list,
        num_workers=1,
        multiprocessing_context="fork",
    )
    ((taken,),) = list(loader)
    assert taken["Shared_Dirty"] >= megabytes << 20
    assert taken["Private_Dirty"] < megabytes << 20


def test_a_copy_in_this_process_leaves_the_set_its_number(small):
    viewed = ViewedImages(small.Squares(), Views(0.25), seed=0)
    viewed.load([0])
    copy = deepcopy(viewed)
    del copy
    (batch,) = DataLoader(
        viewed, batch_sampler=[[(0, 0)]], collate_fn=collate, num_workers=1, multiprocessing_context="fork"
    )
    assert batch.images[0] is viewed.plain(0).image


@pytest.mark.parametrize("tile_scale", [0.5, 1.0])
def test_large_images_that_are_kept_for_a_gpu_are_page_locked(small, tile_scale):
    images = small.Large(4, 1024)
    viewed = ViewedImages(images, Views(0.01, None, tile_scale), seed=0, page_locked=True)
    plain = ViewedImages(images, Views(0.01, None, tile_scale), seed=0)
    for _ in range(2):
        item, other = viewed[3, 1], plain[3, 1]
        assert isinstance(item.image, PinnedImage)
        assert item.image is viewed[3, 2].image
        assert (item.tile_view is item.image) == (tile_scale == 1)
        assert tile_scale == 1 or isinstance(item.tile_view, torch.Tensor)  # a quarter of a MiB
        assert torch.equal(item.image.tensor, other.image)
        assert torch.equal(item.view, other.view)


def test_of_images_that_are_not_kept_views_are_page_locked(small):
    images = small.Large(4, 2048)
    viewed = ViewedImages(images, Views(0.01, None, 0.5), seed=0, resident="views", page_locked=True)
    first, then = viewed[3, 1], viewed[3, 2]
    assert isinstance(first.image, torch.Tensor)
    assert isinstance(then.image, torch.Tensor)
    assert isinstance(then.tile_view, PinnedImage)
    assert torch.equal(then.tile_view.tensor, first.tile_view)


@pytest.mark.parametrize("augmented", [False, True])
def test_a_run_on_page_locked_images_is_the_same(small, monkeypatch, tmp_path, augmented):
    weights = []
    for there in (False, True):
        options = {"view_scale": None, "view_size": (12, 12), "augmentation": Augmentation() if augmented else None}
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda there=there: there)
            task, data = small.parts(small.Large(12, 1024), **options)
        small.trainer(tmp_path).fit(task, datamodule=data)
        assert isinstance(data.sets["train"].plain(0).image, PinnedImage if there else torch.Tensor)
        weights.append(torch.cat([weight.flatten() for weight in task.model.parameters()]))
    assert torch.equal(*weights)

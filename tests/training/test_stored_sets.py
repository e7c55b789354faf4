"""Training on images that stay in their files."""

from __future__ import annotations

import pytest
import torch

from zoomkern.data import ImageFolder, ImageTable
from zoomkern.images import Pyramid
from zoomkern.images.stored import ReducedLevel
from zoomkern.training import views

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")


@pytest.fixture
def slides(small, tmp_path):
    """Tiled TIFF files, a folder per class."""
    images = small.Squares(12)
    for index, label in enumerate(images.labels):
        path = tmp_path / "slides" / images.classes[label] / f"{index:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, images.image(index)[0].numpy(), tile=(16, 16), compression="zlib")
    return tmp_path / "slides"


def weights(small, folder, images, **options):
    """Of a network that was trained on them, with the contrastive loss from the second epoch on."""
    task, data = small.parts(images, **options)
    small.trainer(folder).fit(task, datamodule=data)
    return task.state_dict()


@pytest.mark.parametrize(
    "options", [{}, {"resident": False, "num_workers": 2}, {"resident": "views", "num_workers": 2}]
)
def test_two_stages_learn_the_same_from_files_as_from_memory(small, slides, tmp_path, options):
    stored = ImageFolder(slides, stored=True)
    assert isinstance(stored.image(0), Pyramid)
    assert stored.size(0) == (48, 48)
    learned = weights(small, tmp_path, stored, **options)
    expected = weights(small, tmp_path, ImageFolder(slides))
    assert learned.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(learned[name], value), name


def test_a_large_image_is_no_copy_at_the_scale_of_tiles(slides, monkeypatch):
    monkeypatch.setattr(views, "MOST_TILE_PIXELS", 100)
    view, tiles = views.Views(view_scale=0.25, tile_scale=0.5).make(ImageFolder(slides, stored=True).image(3))
    assert view.shape == (1, 12, 12)
    assert isinstance(tiles, ReducedLevel)
    assert tiles.shape == (1, 24, 24)


def test_augmentation_is_refused(small, slides):
    item = views.ViewedImages(ImageFolder(slides, stored=True), views.Views(0.25), 0).item((0, 0))
    from zoomkern.training.augmentation import Augmentation

    with pytest.raises(TypeError, match="it cannot change stored ones. Leave it out"):
        Augmentation()(item)


def test_zarr_and_copies_are_stored_images_and_no_pictures(slides, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    zarr.save_array(str(tmp_path / "sets" / "one" / "a.zarr"), torch.ones(3, 40, 50, dtype=torch.uint8).numpy())
    (tmp_path / "sets" / "one" / "b.dcm").write_bytes(b"")
    images = ImageFolder(tmp_path / "sets", stored=True)
    assert (images.names, images.size(0)) == (["one/a.zarr"], (40, 50))
    with pytest.raises(ValueError, match="stored=True where it holds slides"):
        ImageFolder(tmp_path / "sets")
    table = tmp_path / "table.csv"
    table.write_text("image,label\nsets/one/a.zarr,0\nslides/none/00.tif,1\n")
    assert [ImageTable(table, stored=True).image(i).shape for i in (0, 1)] == [(3, 40, 50), (1, 48, 48)]
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ImageTable(table)

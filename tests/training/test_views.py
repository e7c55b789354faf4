import pickle

import pytest
import torch

from zoomkern.images import Pyramid
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.training.batches import chosen, collate
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


@pytest.mark.parametrize("bad", [torch.zeros(3, 4), torch.zeros(1, 1, 4, 4)])
def test_scaling_refuses_what_is_no_image(bad):
    with pytest.raises(ValueError, match=r"image must be \[C, H, W\]; got"):
        scaled(bad, (2, 2))
    with pytest.raises(TypeError, match=r"image must be uint8 or floating point; got torch.int32"):
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


def test_items_reach_worker_processes(small):
    viewed = ViewedImages(small.Squares(), Views(0.25, None, 0.5), seed=0)
    assert len(viewed) == len(AugmentedImages(viewed, lambda item: item)) == 12
    assert torch.equal(pickle.loads(pickle.dumps(viewed[2, 0])).view, viewed[2, 0].view)

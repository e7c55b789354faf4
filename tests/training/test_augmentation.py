import pytest
import torch

from zoomkern.images.scaling import scaled
from zoomkern.training.augmentation import Augmentation, coloured, turn, turn_boxes
from zoomkern.training.batches import Item

TURNS = [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]


def item(seed=0, size=(20, 20)):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, 2:5, 11:18] = 200  # y 2..5, x 11..18
    half = (size[0] // 2, size[1] // 2)
    box = torch.tensor([[11, 2, 18, 5]], dtype=torch.float64)
    return Item(image, scaled(image, half), scaled(image, half), 1, 3, seed, box, box)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("size", [(20, 20), (20, 26)])
def test_boxes_turn_with_the_pixels(turns, size):
    given = item(size=size)
    image, boxes = turn(given.image, *turns), turn_boxes(given.objects, size, *turns)
    x0, y0, x1, y1 = boxes[0].long().tolist()
    inside = image[:, y0:y1, x0:x1]
    assert inside.numel() == 3 * 21
    assert inside.eq(200).all()
    assert int(image.sum()) == 3 * 21 * 200


def test_all_eight_symmetries_occur_and_only_four_of_a_rectangle():
    square = {Augmentation()(item(seed)).image.numpy().tobytes() for seed in range(100)}
    assert len(square) == 8
    wide = [Augmentation()(item(seed, (20, 26))) for seed in range(100)]
    assert len({one.image.numpy().tobytes() for one in wide}) == 4
    assert {tuple(one.image.shape) for one in wide} == {(3, 20, 26)}


@pytest.mark.parametrize("seed", range(8))
def test_views_change_as_the_image_does(seed):
    changed = Augmentation()(item(seed))
    # torch rounds a half up on one side of a symmetric weighting and down on the other
    assert (changed.view.int() - scaled(changed.image, (10, 10)).int()).abs().max() <= 1
    assert torch.equal(changed.tile_view, changed.view)


def test_a_seed_says_everything():
    augmentation = Augmentation(colour=0.3)
    one, two, other = augmentation(item(5)), augmentation(item(5)), augmentation(item(6))
    assert torch.equal(one.image, two.image)
    assert not torch.equal(one.image, other.image)


def test_colours_follow_the_formula():
    image = torch.arange(256, dtype=torch.uint8).expand(3, 4, 256)
    exponents = torch.tensor([0.5, 1.0, 2.0])
    expected = (255 * (image.double() / 255) ** exponents[:, None, None].double()).round()
    assert torch.equal(coloured(image, exponents).double(), expected)


def test_without_anything_it_is_the_same_image():
    given = item(1)
    same = Augmentation(symmetries=False)(given)
    assert torch.equal(same.image, given.image)


def test_an_image_that_is_its_own_tile_view_stays_so():
    given = item(2)._replace(tile_view=item(2).image)
    given = given._replace(tile_view=given.image)
    changed = Augmentation(colour=0.1)(given)
    assert changed.tile_view is changed.image


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"colour must be a standard deviation.*got -1"):
        Augmentation(colour=-1)
    with pytest.raises(TypeError, match=r"colour needs uint8 images; got torch.float32"):
        coloured(torch.zeros(3, 2, 2), torch.ones(3))

"""Whole images as one tensor."""

import pytest
import torch

import zoomkern
from zoomkern.images import ImageBank, Pyramid
from zoomkern.models.whole_images import image_sizes, whole_images

CPU = torch.device("cpu")


def pixels(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def test_every_pixel_is_read_and_converted():
    images = pixels(2, 3, 17, 31)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    wanted = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    given = whole_images(images, CPU, mean=mean, std=std)
    assert given.dtype == torch.float32
    torch.testing.assert_close(given.double(), wanted, rtol=0, atol=1e-5)


def test_a_level_of_pyramids_can_be_read():
    pyramids = [Pyramid([pixels(1, 32, 48), pixels(1, 16, 24)]) for _ in range(2)]
    given = whole_images(pyramids, CPU, level=1)
    assert torch.equal(given, torch.stack([pyramid[1] for pyramid in pyramids]).float())


def test_floating_point_images_get_a_gradient():
    images = torch.rand(2, 1, 5, 7, requires_grad=True)
    whole_images(images, CPU, scale=3.0).sum().backward()
    assert torch.equal(images.grad, torch.full_like(images, 3.0))


def test_no_images_of_a_bank_have_no_size():
    bank = ImageBank([pixels(1, 4, 9)])
    with pytest.raises(ValueError, match="images must have a size, for a network that reads them whole; got none"):
        whole_images(bank[torch.zeros(0, dtype=torch.int64)], CPU)


def test_sizes_of_every_form_of_images():
    images = [pixels(1, 4, 9), pixels(1, 6, 5)]
    assert image_sizes(images) == [(4, 9), (6, 5)]
    assert image_sizes(ImageBank(images)[torch.tensor([1, 0, 1])]) == [(6, 5), (4, 9), (6, 5)]
    assert image_sizes(pixels(2, 1, 3, 8)) == [(3, 8), (3, 8)]


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one size.*\(4, 9\), \(6, 5\).*groups"):
        whole_images([pixels(1, 4, 9), pixels(1, 6, 5)], CPU)


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match=r"images\[None\]"):
        whole_images(pixels(1, 4, 9), CPU)


def test_the_whole_image_is_one_patch():
    images = pixels(1, 2, 6, 6)
    corner = torch.zeros(1, 1, 2, dtype=torch.int64)
    wanted = zoomkern.gather_patches(images, corner, (6, 6), scale=0.5).squeeze(1)
    assert torch.equal(whole_images(images, CPU, scale=0.5), wanted)

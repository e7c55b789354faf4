"""Arguments of the image classes that are of no use: a typed error that names them."""

import numpy as np
import pytest
import torch

from zoomkern import ImageBank, PinnedImage, Pyramid, gather_patches

IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda path: Pyramid.build(IMAGE, levels=2.5), TypeError, "levels must be an int; got float 2.5"),
        (lambda path: Pyramid.build(IMAGE, levels="2"), TypeError, "levels must be an int"),
        (lambda path: Pyramid.build(IMAGE, threads="a"), TypeError, "threads must be an int"),
        (lambda path: Pyramid.build(IMAGE, min_size=None), TypeError, "min_size must be an int"),
        (lambda path: Pyramid.build(IMAGE, mpp="a"), TypeError, "mpp must be a number"),
        (lambda path: Pyramid.build(IMAGE, mpp=float("nan")), ValueError, "mpp must be positive and finite"),
        (lambda path: Pyramid.build(IMAGE.to_sparse()), TypeError, "image must be a dense"),
        (lambda path: PinnedImage.empty((3.0, 3, 3)), TypeError, r"shape\[0\] must be an int"),
        (lambda path: PinnedImage.empty((3, 2**40, 2**40)), ValueError, r"shape\[1\] must be between"),
        (lambda path: PinnedImage.empty(7), TypeError, r"shape must be \(C, H, W\)"),
        (lambda path: PinnedImage(IMAGE.to_sparse()), TypeError, "image must be a dense"),
        (lambda path: PinnedImage.from_file(path, max_pixels="10"), TypeError, "max_pixels must be an int"),
        (lambda path: PinnedImage.from_file(path, max_pixels=None), TypeError, "max_pixels must be an int"),
        (lambda path: PinnedImage.from_memmap(path, (2, 2, 3), "junk"), TypeError, "dtype must be a NumPy type"),
        (lambda path: PinnedImage.from_memmap(path, "ab", np.uint8), TypeError, "shape must be the sizes"),
        (lambda path: PinnedImage.from_memmap(path, 100, np.uint8), TypeError, "shape must be the sizes"),
        (lambda path: PinnedImage.from_memmap(path, (2, 2.5, 3), np.uint8), TypeError, r"shape\[1\] must be an int"),
        (lambda path: ImageBank([IMAGE.to_sparse()]), TypeError, r"images\[0\] must be a dense"),
    ],
)
def test_the_argument_is_named(tmp_path, call, error, words):
    path = tmp_path / "pixels.raw"
    path.write_bytes(bytes(100))
    with pytest.raises(error, match=words):
        call(path)


def test_a_pyramid_of_an_image_that_needs_a_gradient_is_built_from_its_values():
    image = torch.rand(1, 8, 8, requires_grad=True)
    pyramid = Pyramid.build(image, levels=2)
    assert pyramid[0] is image
    assert torch.equal(pyramid[1], Pyramid.build(image.detach(), levels=2)[1])


def test_an_image_of_a_bank_that_comes_to_need_a_gradient_is_refused():
    bank = ImageBank([IMAGE.clone()])
    bank.images[0].requires_grad_()
    with pytest.raises(ValueError, match="must not require a gradient"):
        gather_patches(bank[[0]], torch.zeros(1, 1, 2, dtype=torch.int64), 2)

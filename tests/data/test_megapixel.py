"""Megapixel MNIST, from a miniature whose digits are squares of one brightness, and from the real digits."""

import struct

import numpy as np
import pytest
import torch

from zoomkern.data.megapixel import MegapixelMNIST

SMALL = {"size": 200, "length": 40, "num_noise": 12}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """100 digits; digit d of the training split has brightness 10 d + 1, of the test split 10 d + 2."""
    folder = tmp_path_factory.mktemp("mnist")
    labels = (np.arange(100) % 10).astype(np.uint8)
    images = np.broadcast_to((10 * labels + 1 + (np.arange(100) >= 80))[:, None, None], (100, 28, 28)).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())
    return folder


def crops(canvases, index):
    image = canvases.image(index)[0]
    return [image[y0:y1, x0:x1] for x0, y0, x1, y1 in canvases.objects(index).int().tolist()]


@pytest.mark.parametrize("split", ["train", "test"])
def test_three_digits_are_of_the_label_and_two_of_others_all_of_the_split(mnist, split):
    canvases = MegapixelMNIST(mnist, split, paste="digits-over-noise", **SMALL)
    for index in range(40):
        digits = canvases.digits(index)
        assert (digits == canvases.labels[index]).tolist() == [True] * 3 + [False] * 2
        for digit, crop in zip(digits.tolist(), crops(canvases, index), strict=True):
            assert (crop == 10 * digit + 1 + (split == "test")).all()


def test_the_paste_that_comes_last_replaces_the_other(mnist):
    below, above = (MegapixelMNIST(mnist, paste=paste, **SMALL) for paste in ("noise-over-digits", "digits-over-noise"))
    hidden = 0
    for index in range(40):
        image = below.image(index)
        inside = torch.zeros_like(image, dtype=torch.bool)
        for x0, y0, x1, y1 in below.objects(index).int().tolist():
            inside[:, y0:y1, x0:x1] = True
        changed = image != above.image(index)
        assert not (changed & ~inside).any()
        lines = image[changed]
        assert ((lines == 0) | (lines >= 204)).all()  # a noise glyph replaces all pixels of its square, black ones too
        hidden += int(changed.sum())
    assert hidden > 0


def test_without_noise_there_are_five_squares_on_black(mnist):
    canvases = MegapixelMNIST(mnist, size=(150, 210), length=5, num_noise=0)
    for index in range(5):
        image = canvases.image(index)
        assert image.shape == (1, 150, 210)
        assert image.dtype == torch.uint8
        assert (image > 0).sum() == 5 * 28 * 28


def test_digits_lie_apart_and_inside_on_the_smallest_canvas(mnist):
    canvases = MegapixelMNIST(mnist, size=139, length=40, num_noise=0)
    reached = torch.cat([canvases.objects(index) for index in range(40)])
    assert (reached.min(), reached.max()) == (0, 139)  # of 200 digits; missed by chance once in 10^3 seeds
    for index in range(40):
        boxes = canvases.objects(index)
        apart = (boxes[:, None, :2] - boxes[None, :, :2]).abs().amax(-1) >= 28
        assert (apart | torch.eye(5, dtype=torch.bool)).all()


@pytest.mark.parametrize("task", ["majority", "max", "top"])
def test_the_label_answers_the_task(mnist, task):
    canvases = MegapixelMNIST(mnist, task=task, **SMALL)
    for index, label in enumerate(canvases.labels):
        digits = canvases.digits(index)
        answers = {"majority": digits.mode().values, "max": digits.max()}
        answers["top"] = digits[canvases.objects(index)[:, 1].argmin()]
        assert label == answers[task]


def test_every_digit_is_the_label_equally_often(mnist):
    labels = torch.tensor(MegapixelMNIST(mnist, size=200, length=400).labels)
    assert labels.bincount(minlength=10).min() >= 15  # 40 expected; below 15 by chance once in 10^4 seeds


def test_noise_is_bright_lines_that_begin_28_pixels_from_the_edge(mnist):
    canvases = MegapixelMNIST(mnist, size=120, length=20, num_noise=200, copies=1, others=0)
    for index in range(20):
        image = canvases.image(index)
        (x0, y0, x1, y1) = canvases.objects(index).int()[0].tolist()
        image[:, y0:y1, x0:x1] = 0
        assert not image[:, :28].any()
        assert not image[:, :, :28].any()
        ink = image[image > 0]
        assert 204 <= ink.min() <= 206  # of thousands of pixels
        assert 253 <= ink.max() <= 255
        assert 0.02 < len(ink) / image.numel() < 0.2


def test_a_canvas_is_the_same_whatever_the_length_and_differs_by_seed_and_split(mnist):
    make = lambda split="train", length=4, seed=0: MegapixelMNIST(mnist, split, size=200, length=length, seed=seed)[3]  # noqa: E731
    assert torch.equal(make().image, make(length=9).image)
    assert make().objects.tolist() == make(length=9).objects.tolist()
    for other in (make(seed=1), make("test")):
        assert make().objects.tolist() != other.objects.tolist()


def test_the_published_numbers_are_the_defaults(mnist):
    train, test = (MegapixelMNIST(mnist, split) for split in ("train", "test"))
    assert (len(train), len(test), train.size(0)) == (5000, 1000, (1500, 1500))
    assert (train.paste, train.task, train.num_noise) == ("noise-over-digits", "majority", 50)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"split": "valid"}, "split"),
        ({"paste": "blend"}, "paste"),
        ({"task": "min"}, "task"),
        ({"size": 138}, "size"),
        ({"size": (40, 4000)}, "size"),
        ({"copies": 2, "others": 2}, "others"),
        ({"num_noise": -1}, "num_noise"),
        ({"length": 0}, "length"),
    ],
)
def test_bad_arguments_are_named(mnist, arguments, name):
    with pytest.raises(ValueError, match=name):
        MegapixelMNIST(mnist, **arguments)


def test_a_reduced_canvas_of_real_digits(real_data):
    canvases = MegapixelMNIST(real_data("mnist"), "test", size=512, length=3, num_noise=6)
    example = canvases[1]
    assert example.image.shape == (1, 512, 512)
    assert all(crop.max() > 200 for crop in crops(canvases, 1))
    assert example.name == "test-000001"

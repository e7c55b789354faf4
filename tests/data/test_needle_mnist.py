"""Needle MNIST, from a miniature whose digits are squares of one brightness, and from the real digits."""

import struct

import numpy as np
import pytest
import torch

from zoomkern.data.needle_mnist import NeedleMNIST


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """100 digits, each a square of brightness 20 d + 10."""
    folder = tmp_path_factory.mktemp("mnist")
    labels = (np.arange(100) % 10).astype(np.uint8)
    images = np.broadcast_to((20 * labels + 10)[:, None, None], (100, 28, 28)).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())
    return folder


@pytest.mark.parametrize(
    ("size", "distractors", "percent"),
    [
        (64, 2, "19.1"),
        (128, 6, "4.8"),
        (256, 25, "1.2"),
        (512, 100, "0.30"),
        (1024, 400, "0.075"),
        (2048, 1600, "0.019"),
        (4096, 6400, "0.0047"),
        (6144, 14400, "0.0021"),
    ],
)
def test_the_published_series_is_the_default(mnist, size, distractors, percent):
    canvases = NeedleMNIST(mnist, size=size, length=2)
    assert canvases.distractors == distractors
    assert f"{100 * canvases.object_ratio:.{len(percent.split('.')[1])}f}" == percent


def test_smaller_digits_litter_as_much_of_the_canvas(mnist):
    assert NeedleMNIST(mnist, size=256, object_side=14, length=2).distractors == 100
    assert NeedleMNIST(mnist, size=(128, 512), length=2).distractors == 25


@pytest.mark.parametrize("digit", [3, 0])
@pytest.mark.parametrize("side", [28, 11, 40])
def test_the_needle_is_whole_where_there_is_one_and_nowhere_else(mnist, digit, side):
    canvases = NeedleMNIST(mnist, size=(160, 200), length=20, digit=digit, object_side=side)
    for image, label, _, objects in (canvases[index] for index in range(20)):
        assert image.shape == (1, 160, 200)
        needle = image[0] == 20 * digit + 10
        assert objects.shape == (label, 4)
        assert needle.sum() == label * side**2
        for x0, y0, x1, y1 in objects.int().tolist():
            assert needle[y0:y1, x0:x1].all()


def test_both_classes_have_as_many_digits(mnist):
    canvases = NeedleMNIST(mnist, size=1024, length=20, distractors=5)
    inked = {0: [], 1: []}
    for index, label in enumerate(canvases.labels):
        inked[label].append(int((canvases.image(index) > 0).sum()))
    assert max(inked[0]) == max(inked[1]) == 6 * 28**2  # most canvases have no overlap


def test_a_lone_digit_may_lie_anywhere(mnist):
    canvases = NeedleMNIST(mnist, size=32, length=200, distractors=0)
    boxes = torch.cat([canvases.objects(index) for index in range(200)])
    assert boxes.unique(dim=0).shape[0] >= 23  # of 25 places, 100 draws; fewer by chance once in 10^3 seeds
    assert (boxes.min(), boxes.max()) == (0, 32)


def test_distractors_are_every_other_digit(mnist):
    image = NeedleMNIST(mnist, size=2048, length=1).image(0)
    values = image.unique().tolist()
    assert [v for v in values if v != 70] == [0] + [20 * d + 10 for d in range(10) if d != 3]


def test_a_canvas_is_the_same_whatever_the_length_and_differs_by_seed_and_split(mnist):
    make = lambda split="train", length=4, seed=0: NeedleMNIST(mnist, split, size=256, length=length, seed=seed)[3]  # noqa: E731
    assert torch.equal(make().image, make(length=9).image)
    assert not torch.equal(make().image, make(seed=1).image)
    assert not torch.equal(make().image, make("test").image)


def test_the_published_length_is_the_default(mnist):
    assert len(NeedleMNIST(mnist)) == 11276
    assert NeedleMNIST(mnist, "test").classes == ["no 3", "a 3"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"split": "valid"}, "split"),
        ({"digit": 10}, "digit"),
        ({"size": 20}, "object_side"),
        ({"object_side": 0}, "object_side"),
        ({"distractors": -1}, "distractors"),
    ],
)
def test_bad_arguments_are_named(mnist, arguments, name):
    with pytest.raises(ValueError, match=name):
        NeedleMNIST(mnist, **arguments)


def test_real_digits(real_data):
    canvases = NeedleMNIST(real_data("mnist"), "test", size=512, length=2)
    for index, label in enumerate(canvases.labels):
        image = canvases.image(index)
        assert 0.03 < (image > 128).float().mean() < 0.12  # a tenth of a digit's square is bright ink
        for x0, y0, x1, y1 in canvases.objects(index).int().tolist() * label:
            assert image[0, y0:y1, x0:x1].max() > 200

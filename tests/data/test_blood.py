"""White cells on a quilt of fields, from plain colours and from the real set."""

import numpy as np
import pytest
import torch

from zoomkern.data import blood as module
from zoomkern.data.blood import MIN_SIZE, BloodNeedles
from zoomkern.data.smears import FIELD, MARGIN, Smears

GROUND, CELL = 200, 80


@pytest.fixture
def plain(monkeypatch):
    """A set whose fields are of one colour, its white cells of another, and whose stain changes nothing."""
    fields = np.full((2, FIELD, FIELD, 3), GROUND, np.uint8)
    cells = [np.full((*size, 3), CELL, np.uint8) for size in ((160, 200), (256, 256), (140, 128))]
    stains = np.array([[[1.0] * 3, [0.0] * 3]])
    monkeypatch.setattr(module, "load_smears", lambda root, split: Smears(fields, cells, stains))
    return lambda split="train", **options: BloodNeedles("", split, **{"size": 800, "length": 12, **options})


def ink(image):
    """How much of the white cell's colour each pixel has."""
    return (GROUND - image[0].double()) / (GROUND - CELL)


def test_a_positive_canvas_shows_the_whole_cell_in_its_box(plain):
    canvases = plain(size=(800, 900))
    for index, label in enumerate(canvases.labels):
        image, _, _, objects = canvases[index]
        assert (image.shape, image.dtype) == ((3, 800, 900), torch.uint8)
        assert objects.shape == (label, 4)
        for x0, y0, x1, y1 in objects.int().tolist():
            rows, columns = (ink(image) > 0.99).nonzero(as_tuple=True)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.subtract(found, [x0, y0, x1, y1])).max() <= 2  # where the rim begins to fade
            spread = (ink(image) > 0).nonzero()
            assert (spread.amin(0) >= torch.tensor([y0, x0]) - MARGIN).all()
            assert (spread.amax(0) < torch.tensor([y1, x1]) + MARGIN).all()


def test_both_classes_hold_as_much_of_the_cell(plain):
    canvases = plain(size=1600, length=14)
    amounts = {0: set(), 1: set()}
    for index, label in enumerate(canvases.labels):
        amounts[label].add(round(float(ink(canvases.image(index)).sum()), -3))
    whole = sorted(round(float(module._oval(*cell.shape[:2]).sum()), -3) for cell in canvases._smears.cells)
    assert sorted(amounts[1]) == whole
    assert max(min(abs(amount - w) for w in whole) for amount in amounts[0]) <= 1000  # a pixel's rounding, 10^5 times


def test_shards_are_smaller_than_the_cell_and_add_up_to_it():
    oval = module._oval(180, 150)
    shards = module._shards(np.random.default_rng(0), oval, 6)
    assert shards.shape == (6, 180, 150)
    np.testing.assert_allclose(shards.sum(0), oval, atol=1e-6)
    assert shards.sum((1, 2)).max() < 0.6 * oval.sum()
    assert shards.min() == 0


def test_an_oval_is_whole_in_the_box_and_gone_at_the_edge():
    oval = module._oval(180, 150)
    middle = oval[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert (oval == 1).sum() == pytest.approx(np.pi / 4 * middle.size, rel=0.02)
    rim = max(oval[0].max(), oval[-1].max(), oval[:, 0].max(), oval[:, -1].max())
    assert rim <= 3 / 32**2  # 3 t ** 2, half a pixel inside


def test_shards_keep_off_what_lies_whole(plain):
    canvases = plain(size=MIN_SIZE, length=40, num_shards=12)
    for index, label in enumerate(canvases.labels):
        if label:  # shards of the ground, which would bite the cell
            x0, y0, x1, y1 = canvases.objects(index).int()[0].tolist()
            oval = torch.from_numpy(module._oval(y1 - y0 + 2 * MARGIN, x1 - x0 + 2 * MARGIN))
            cut = ink(canvases.image(index))[y0 - MARGIN : y1 + MARGIN, x0 - MARGIN : x1 + MARGIN]
            assert (cut - oval).abs().max() <= 0.5 / (GROUND - CELL) + 1e-6


def test_without_shards_negative_canvases_are_free_of_the_cell(plain):
    canvases = plain(num_shards=0)
    for index, label in enumerate(canvases.labels):
        assert bool(ink(canvases.image(index)).any()) == bool(label)


def test_needles_lie_anywhere_turned_any_way(plain):
    canvases = plain(length=300)
    boxes = torch.cat([canvases.objects(index) for index in range(300)])
    assert len(boxes) == 150
    assert boxes.min() <= MARGIN + 20  # corners within 20 of 540 pixels, 300 draws: missed once in 10^4 seeds
    assert boxes.max() >= 800 - MARGIN - 20
    shapes = {(int(y1 - y0), int(x1 - x0)) for x0, y0, x1, y1 in boxes.tolist()}
    assert shapes == {(128, 168), (168, 128), (224, 224), (108, 96), (96, 108)}


def test_the_ratio_is_the_mean_over_the_cells(plain):
    assert plain(size=1000).object_ratio == pytest.approx((128 * 168 + 224 * 224 + 108 * 96) / 3 / 1e6)


def test_a_canvas_is_the_same_whatever_the_length_and_differs_by_seed_and_split(plain):
    make = lambda split="train", length=4, seed=0: plain(split, length=length, seed=seed, num_shards=2)[3]  # noqa: E731
    assert torch.equal(make().image, make(length=9).image)
    assert not torch.equal(make().image, make(seed=1).image)
    assert not torch.equal(make().image, make("test").image)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"split": "valid"}, "split"),
        ({"size": MIN_SIZE - 1}, r"size\[0\]"),
        ({"size": (1024, 512)}, r"size\[1\]"),
        ({"num_shards": -1}, "num_shards"),
        ({"length": 0}, "length"),
    ],
)
def test_bad_arguments_are_named(plain, arguments, name):
    with pytest.raises(ValueError, match=name):
        plain(**arguments)


def statistics(image):
    """Mean, deviation and extreme of each colour, the share of purple, edges, and a coarse histogram."""
    pixels = image.permute(1, 2, 0).numpy().astype(np.int16)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    purple = ((blue - green > 50) & (red < 170)).mean()
    edges = [(np.abs(np.diff(green, axis=axis)) > 20).mean() for axis in (0, 1)]
    shares = [((level <= green) & (green < level + 32)).mean() for level in range(64, 256, 32)]
    return [*pixels.mean((0, 1)), *pixels.std((0, 1)), *pixels.min((0, 1)), *edges, *shares, purple]


def aucs(canvases):
    """For each statistic, the chance that it is larger on a positive canvas than on a negative one."""
    values = np.array([statistics(canvases.image(index)) for index in range(len(canvases))])
    labels = np.array(canvases.labels, bool)
    positive, negative = values[labels, None], values[None, ~labels]
    return ((positive > negative) + 0.5 * (positive == negative)).mean((0, 1))


def test_no_simple_statistic_of_real_canvases_tells_the_classes_apart(real_data):
    number = 64
    found = aucs(BloodNeedles(real_data("bccd"), "test", size=MIN_SIZE, length=number))
    error = ((number + 1) / (12 * (number / 2) ** 2)) ** 0.5  # of the AUC of a statistic that knows nothing: 0.073
    assert np.abs(found - 0.5).max() <= 4 * error  # of 18 statistics; beyond by chance once in 800 seeds


def test_without_shards_purple_gives_the_answer(real_data):
    assert aucs(BloodNeedles(real_data("bccd"), "test", size=MIN_SIZE, length=20, num_shards=0))[-1] > 0.95


def test_real_needles_are_as_small_as_published_ones(real_data):
    ratio = BloodNeedles(real_data("bccd"), "test", size=2048, length=2).object_ratio
    assert 0.001 < ratio < 0.01

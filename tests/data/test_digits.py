"""Megapixel digits."""

import pytest
import torch
from torch.nn import functional as F

from zoomkern.data import DigitCanvases
from zoomkern.data import digits as module

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def canvases():
    return DigitCanvases("train", length=40, size=512, num_backgrounds=4, seed=3)


def test_a_canvas_is_eight_bit_and_its_view_is_the_mean_of_every_cell(canvases):
    canvas = canvases[5]
    assert canvas.image.shape == (1, 512, 512)
    assert canvas.image.dtype == torch.uint8
    torch.testing.assert_close(canvas.view, F.avg_pool2d(canvas.image.float(), 32) / 255)


def test_the_label_occurs_three_times_and_nothing_else_does(canvases):
    for canvas in map(canvases.__getitem__, range(40)):
        counts = canvas.digits.bincount(minlength=10)
        assert counts.sum() == 5
        assert counts[canvas.label] == 3


def test_labels_vary_over_every_class():
    labels = torch.cat([b.labels for b in DigitCanvases(length=400, size=512, num_backgrounds=8).batches(8)])
    assert labels.bincount(minlength=10).min() >= 15  # 40 expected; below 15 by chance once in 10^4 seeds


def test_digits_lie_inside_apart_and_bright(canvases):
    for canvas in map(canvases.__getitem__, range(40)):
        assert canvas.boxes.min() >= 0
        assert canvas.boxes.max() <= 512
        for number, (x0, y0, x1, y1) in enumerate(canvas.boxes.tolist()):
            assert x1 - x0 == y1 - y0
            assert x1 - x0 in module.DIGIT_SIDES
            assert canvas.image[0, y0:y1, x0:x1].max() == 255
            for a0, b0, a1, b1 in canvas.boxes[:number].tolist():
                assert x0 >= a1 or x1 <= a0 or y0 >= b1 or y1 <= b0


def test_batches_hold_what_indexing_gives_without_a_copy(canvases):
    seen = 0
    pointers = set()
    for batch in canvases.batches(3, start=2):
        for number, image in enumerate(batch.images):
            other = canvases.__class__("train", length=40, size=512, num_backgrounds=4, seed=3) if seen == 0 else None
            if other is not None:
                assert torch.equal(image, other[2].image)
                assert torch.equal(batch.view[number], other[2].view)
                assert torch.equal(batch.boxes[number], other[2].boxes)
                assert int(batch.labels[number]) == other[2].label
            pointers.add(image.data_ptr())
            seen += 1
    assert seen == 38
    assert len(pointers) == 4


@pytest.mark.parametrize("stop_after", [1, None], ids=["left early", "run through"])
def test_batches_leave_the_backgrounds_as_they_were(canvases, stop_after):
    before = canvases._backgrounds.clone()
    for number, _ in enumerate(canvases.batches(4)):
        assert not torch.equal(canvases._backgrounds, before)
        if number + 1 == stop_after:
            break
    assert torch.equal(canvases._backgrounds, before)


def test_the_same_seed_gives_the_same_canvas_whatever_the_length():
    make = lambda length, seed: DigitCanvases("test", length, 512, 2, seed)[7].image  # noqa: E731
    assert torch.equal(make(8, 1), make(1 << 40, 1))
    assert not torch.equal(make(8, 1), make(8, 2))


def test_training_and_test_share_no_digit_and_no_background():
    train, test = DigitCanvases("train", 4, 512, 2), DigitCanvases("test", 4, 512, 2)
    of_train = {glyph.numpy().tobytes() for glyph in train._glyphs[0]}
    of_test = {glyph.numpy().tobytes() for glyph in test._glyphs[0]}
    assert len(of_train) + len(of_test) > 1780  # of 1797; few are drawn alike
    assert not of_train & of_test
    assert not torch.equal(train._backgrounds, test._backgrounds)


def test_a_digit_spans_hardly_more_than_a_view_cell():
    assert max(module.DIGIT_SIDES) <= 1.25 * module.CELL


def test_negative_indices_count_from_the_end(canvases):
    assert torch.equal(canvases[-1].image, canvases[39].image)


@pytest.mark.parametrize("index", [40, -41])
def test_an_index_beyond_the_end_is_an_error(canvases, index):
    with pytest.raises(IndexError, match=str(index)):
        canvases[index]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"split": "valid"}, "split"),
        ({"size": 480}, "size"),
        ({"size": 2050}, "size"),
        ({"length": -1}, "length"),
        ({"num_backgrounds": 0}, "num_backgrounds"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        DigitCanvases(**arguments)


@pytest.mark.parametrize("batch_size", [0, 5])
def test_a_batch_must_fit_the_backgrounds(canvases, batch_size):
    with pytest.raises(ValueError, match="batch_size"):
        next(canvases.batches(batch_size))

"""Places of labels."""

import numpy as np
import pytest

from zoomkern.visual.labels import place_labels

BOUNDS = (0.0, 0.0, 1000.0, 1000.0)


def rectangles(boxes, size=(20.0, 10.0)):
    boxes = np.array(boxes, dtype=float)
    centres, led = place_labels(boxes, np.tile(size, (len(boxes), 1)), boxes, BOUNDS)
    half = np.array(size) / 2
    return np.concatenate((centres - half, centres + half), 1), led


def overlap(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return max(width, 0) * max(height, 0)


def test_a_label_alone_is_above_its_box_and_flush_left():
    (label,), (led,) = rectangles([[300, 400, 340, 440]])
    assert (label[0], label[3]) == (300, 399)
    assert not led


@pytest.mark.parametrize(
    "box", [[0, 0, 40, 40], [-30, 500, 10, 540], [960, -20, 1000, 20], [980, 980, 1020, 1020], [0, 0, 1000, 1000]]
)
def test_labels_stay_in_the_picture(box):
    (label,), _ = rectangles([box])
    assert (label[:2] >= 0).all()
    assert (label[2:] <= 1000).all()


def test_labels_of_neighbours_hide_neither_each_other_nor_the_boxes():
    boxes = [[300, 400, 340, 440], [310, 400, 350, 440], [300, 410, 340, 450]]
    labels, led = rectangles(boxes)
    assert not led.any()
    assert all(overlap(a, b) == 0 for i, a in enumerate(labels) for b in labels[:i])
    assert all(overlap(a, np.array(b)) == 0 for a in labels for b in boxes)


def test_where_there_is_no_room_labels_move_away_and_say_so():
    labels, led = rectangles([[300, 400, 340, 440]] * 25)
    assert all(overlap(a, b) == 0 for i, a in enumerate(labels) for b in labels[:i])
    distance = np.maximum(np.array([300, 400]) - labels[:, 2:], labels[:, :2] - np.array([340, 440])).max(1)
    assert (led == (distance > 5)).all()
    assert 0 < led.sum() < 25


def test_nothing_to_label():
    centres, led = place_labels(np.zeros((0, 4)), np.zeros((0, 2)), np.zeros((0, 4)), BOUNDS)
    assert centres.shape == (0, 2)
    assert led.shape == (0,)


def test_a_label_that_another_box_is_as_near_to_has_a_line():
    """Boxes one upon the other: what stands beside both could be either's."""
    boxes = [[300, 400, 340, 440], [300, 440, 340, 480], [340, 400, 380, 440], [340, 440, 380, 480]]
    labels, led = rectangles(boxes)
    for label, own, line in zip(labels, boxes, led, strict=True):
        gaps = [
            np.hypot(max(b[0] - label[2], label[0] - b[2], 0), max(b[1] - label[3], label[1] - b[3], 0)) for b in boxes
        ]
        mine = gaps[boxes.index(own)]
        assert line or all(gap > mine for box, gap in zip(boxes, gaps, strict=True) if box != own)

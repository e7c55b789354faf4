"""Places for the labels of boxes, so that none hides another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: How far from its box a label may go, in its own heights.
_REACHES = (0, 1, 2, 3, 4, 6, 8)
#: Rather a label's height farther away than a tenth of the label over a box, or three where it might be another box's;
#: labels never over labels if it can be.
_AWAY, _OVER_BOX, _AMBIGUOUS, _OVER_LABEL = 0.1, 1.0, 0.3, 10.0


def place_labels(
    boxes: NDArray[np.float64],
    sizes: NDArray[np.float64],
    obstacles: NDArray[np.float64],
    bounds: tuple[float, float, float, float],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Put each label beside its box: above and flush left where that is free, else wherever it hides least.

    One label after the other takes the best place that those before it have left.

    Args:
        boxes: ``[n, 4]`` xyxy, y pointing down.
        sizes: ``[n, 2]`` width and height of the labels, in the same unit.
        obstacles: ``[m, 4]`` xyxy, what labels had better not cover.
        bounds: xyxy that labels should keep to.

    Returns:
        ``[n, 2]`` centres, and for each label whether a line should lead to its box, as it is far from that or another
        box is as near.
    """
    centres, led = np.zeros((len(boxes), 2)), np.zeros(len(boxes), dtype=bool)
    labels = np.zeros((0, 4))
    for i, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        choices, reach = _places(box, size)
        rectangles = np.concatenate((choices - size / 2, choices + size / 2), 1)
        outside = 1 - _covered(rectangles, np.array([bounds]))
        others = obstacles[(obstacles != box).any(1)]
        ambiguous = np.any(_gaps(rectangles, others) <= _gaps(rectangles, box[None]), axis=1)
        cost = _AWAY * reach + 1e-3 * np.arange(len(choices)) + _OVER_BOX * _covered(rectangles, obstacles)
        cost += _AMBIGUOUS * ambiguous
        best = int(np.argmin(cost + _OVER_LABEL * (outside + _covered(rectangles, labels))))
        centres[i], led[i] = choices[best], reach[best] > 0 or ambiguous[best]
        labels = np.concatenate((labels, rectangles[best : best + 1]))
    return centres, led


def _places(box: NDArray[np.float64], size: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres ``[k, 2]`` all around a box and in its corners, and how far each is, in heights of the label."""
    x0, y0, x1, y1 = box
    width, height = size
    places, reaches = [], []
    for reach in _REACHES:
        gap = (0.1 + reach) * height
        columns = (x0 + width / 2, x1 - width / 2, x1 + gap + width / 2, x0 - gap - width / 2)
        rows = (y0 - gap - height / 2, y1 + gap + height / 2, y0 + height / 2, y1 - height / 2)
        around = [(x, y) for j, y in enumerate(rows) for i, x in enumerate(columns) if i > 1 or j < 2 or reach == 0]
        places += around
        reaches += [reach] * len(around)
    return np.array(places), np.array(reaches, dtype=float)


def _covered(rectangles: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each rectangle ``[k]`` that the others cover, added up over the others."""
    low = np.maximum(rectangles[:, None, :2], others[None, :, :2])
    high = np.minimum(rectangles[:, None, 2:], others[None, :, 2:])
    area = (rectangles[:, 2:] - rectangles[:, :2]).prod(1)
    share: NDArray[np.float64] = (high - low).clip(min=0).prod(2).sum(1) / area
    return share


def _gaps(rectangles: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance ``[k, m]`` of each rectangle from each of the others; 0 where they touch."""
    low = np.maximum(rectangles[:, None, :2], others[None, :, :2])
    high = np.minimum(rectangles[:, None, 2:], others[None, :, 2:])
    distance: NDArray[np.float64] = np.hypot(*np.moveaxis((low - high).clip(min=0), 2, 0))
    return distance

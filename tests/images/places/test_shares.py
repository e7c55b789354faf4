"""Shares of cells and windows: exact areas, judged by fractions of every pixel."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoomkern
from zoomkern.images import cell_share, cells_with, share_at
from zoomkern.typing import PADDED_OFFSET

SIDES = st.integers(1, 9)
MASKS = st.builds(
    lambda h, w, seed: torch.rand(h, w, generator=torch.Generator().manual_seed(seed)) < 0.5,
    SIDES,
    SIDES,
    st.integers(0, 1000),
)


def overlap(a, b, c, d):
    return max(Fraction(0), min(b, d) - max(a, c))


def area(mask, top, bottom, left, right, size):
    """Pixels of an image of ``size`` between the borders that the mask covers."""
    tall, wide = Fraction(size[0], mask.shape[0]), Fraction(size[1], mask.shape[1])
    return sum(
        overlap(i * tall, (i + 1) * tall, top, bottom) * overlap(j * wide, (j + 1) * wide, left, right)
        for i, j in mask.nonzero().tolist()
    )


@given(MASKS, SIDES, SIDES)
def test_cells_have_their_exact_share(mask, rows, columns):
    share = cell_share(mask, (rows, columns))

    assert share.dtype == torch.float64
    for r in range(rows):
        for c in range(columns):
            assert share[r, c] == float(area(mask, r, r + 1, c, c + 1, (rows, columns)))


@given(
    MASKS,
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(-15, 25), st.integers(-15, 25)),
)
def test_windows_have_their_exact_share(mask, size, extent, place):
    share = share_at(mask, torch.tensor([place]), extent, size)

    top, left = place
    covered = area(mask, max(top, 0), top + extent[0], max(left, 0), left + extent[1], size)
    assert share.tolist() == [float(covered / (extent[0] * extent[1]))]


def test_places_far_outside_are_not_covered():
    mask = torch.ones(3, 3, dtype=torch.bool)
    far = torch.tensor([[PADDED_OFFSET, 0], [(1 << 63) - 1, (1 << 63) - 1], [-(1 << 63), 5], [0, 0]])

    assert share_at(mask, far, 10, (10, 10)).tolist() == [0, 0, 0, 1]
    assert share_at(mask, far.reshape(2, 2, 2), 10, (10, 10)).tolist() == [[0, 0], [0, 1]]


def test_shares_stay_exact_where_the_integral_wraps():
    mask = torch.ones(3000, 3001, dtype=torch.bool)
    size = (1 << 30, 1 << 30)  # the integral times H W is beyond 2^80
    places = torch.tensor([[(1 << 30) - 256, (1 << 30) - 256], [(1 << 30) - 128, 7], [0, 0]])

    assert share_at(mask, places, 256, size).tolist() == [1, 0.5, 1]


def test_ten_of_a_hundred_pixels_are_a_tenth():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[0, :10] = True  # 10 of the 100 pixels of the first cell
    mask[10, 10:19] = True  # 9 of the last one's

    assert cells_with(mask, (2, 2)).tolist() == [[True, False], [False, False]]
    assert cells_with(mask, (2, 2), minimum=0).tolist() == [[True, False], [False, True]]


def test_what_the_mask_leaves_out_is_never_drawn():
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[10:20, 30:] = True
    image = torch.zeros(1, 400, 600, dtype=torch.uint8)
    allowed = cells_with(mask, (4, 6))

    drawn = zoomkern.sample_patches([image], torch.zeros(1, 4, 6), 3, 20, mask=allowed[None], seed=0)

    assert sorted(drawn.index[0].tolist()) == [9, 10, 11]
    assert (share_at(mask, drawn.offsets[0], 20, (400, 600)) == 1).all()


def test_an_empty_mask_is_an_error_that_names_the_cures():
    with pytest.raises(ValueError, match="nothing could be drawn. Lower minimum=, look at the mask"):
        cells_with(torch.zeros(5, 5, dtype=torch.bool), (2, 2))
    with pytest.raises(ValueError, match=r"cover 0\.9 of a cell of the grid \(1, 1\) at least once; it covers 0\.5"):
        cells_with(torch.tensor([[True, False]]), (1, 1), minimum=0.9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: cells_with(m, (2, 2), minimum=1.5), ValueError, "minimum must be a share from 0 to 1"),
        (lambda m: cells_with(m, (0, 2)), ValueError, r"grid\[0\] must be between 1"),
        (lambda m: cells_with(m.float(), (2, 2)), TypeError, "mask must be bool"),
        (lambda m: cells_with(m[None], (2, 2)), ValueError, r"mask must be \[h, w\]"),
        (lambda m: cells_with(m[:0], (2, 2)), ValueError, "at least one pixel"),
        (lambda m: share_at(m, torch.zeros(2, 2), 3, (9, 9)), TypeError, "locations must be int64"),
        (lambda m: share_at(m, torch.zeros(3, dtype=torch.int64), 3, (9, 9)), ValueError, r"\[\.\.\., 2\]"),
        (lambda m: share_at(m, torch.zeros(1, 2, dtype=torch.int64), (1 << 31) - 1, (9, 9)), ValueError, "below 2^63"),
        (lambda m: cell_share("mask", (2, 2)), TypeError, "mask must be a bool tensor"),
    ],
)
def test_bad_arguments_are_answered(call, error, message):
    with pytest.raises(error, match=message.replace("2^63", r"2\^63")):
        call(torch.ones(5, 5, dtype=torch.bool))

"""Tiles joined along seams."""

import numpy as np
import pytest

from zoomkern.data.quilt import quilt


def cut(picture, rows, columns, side, overlap):
    step = side - overlap
    return np.stack(
        [
            np.stack([picture[r * step : r * step + side, c * step : c * step + side] for c in range(columns)])
            for r in range(rows)
        ]
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (3, 1), (2, 3)])
def test_tiles_that_agree_give_back_the_picture_they_were_cut_from(rows, columns):
    picture = np.random.default_rng(0).integers(0, 256, (rows * 13 + 7, columns * 13 + 7, 3), np.uint8)
    np.testing.assert_array_equal(quilt(cut(picture, rows, columns, 20, 7), 7), picture)


@pytest.mark.parametrize("along", [0, 1], ids=["side by side", "one below the other"])
def test_the_seam_follows_where_tiles_agree(along):
    side, overlap = 40, 16
    way = 8 + np.round(4 * np.sin(np.arange(side) / 4)).astype(int)  # at most one sideways per step
    first, second = np.full((side, side, 1), 100, np.uint8), np.full((side, side, 1), 200, np.uint8)
    first[np.arange(side), side - overlap + way] = 200  # here alone the two agree
    tiles = np.stack([first, second])
    joined = quilt(tiles[None], overlap) if along == 0 else quilt(tiles.swapaxes(1, 2)[:, None], overlap).swapaxes(0, 1)
    for line, at in zip(joined[..., 0], side - overlap + way, strict=True):
        assert (line[: at - 2] == 100).all()
        assert (line[at + 3 :] == 200).all()


def test_the_path_is_the_cheapest_of_all():
    rng = np.random.default_rng(1)
    side, overlap = 9, 4
    for _ in range(20):
        tiles = np.zeros((1, 2, side, side, 1), np.uint8)
        tiles[0, 1] = 255
        cost = rng.integers(0, 200, (side, overlap), np.uint8)
        tiles[0, 0, :, side - overlap :, 0] = 255 - cost
        best = {v: (int(cost[0, v]), [v]) for v in range(overlap)}
        for line in cost[1:].tolist():
            best = {v: min((best[u][0] + line[v], [*best[u][1], v]) for u in best if abs(u - v) <= 1) for v in best}
        path = min(best.values())[1]
        joined = quilt(tiles, overlap)[:, :, 0].astype(int)
        for line, (at, row) in enumerate(zip(path, cost.astype(int), strict=True)):
            share = np.clip((np.arange(overlap) - at) / 4 + 0.5, 0, 1)
            expected = (255 - row) + share * row
            assert np.abs(joined[line, side - overlap : side] - expected).max() <= 0.5

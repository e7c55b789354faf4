"""polygon_mask: the even-odd rule at the centres of cells, as matplotlib judges them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.images import polygon_mask


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [[list(map(float, point)) for point in ring] for ring in rings]}


def judged(rings, image_size, size):
    """Even-odd by matplotlib, ring by ring."""
    path = pytest.importorskip("matplotlib.path")
    y = (np.arange(size[0]) + 0.5) * image_size[0] / size[0]
    x = (np.arange(size[1]) + 0.5) * image_size[1] / size[1]
    centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(centres), dtype=bool)
    for ring in rings:
        inside ^= path.Path(np.array([*ring, ring[0]])).contains_points(centres)
    return inside.reshape(size)


def star(corners, centre, radii, seed):
    random = np.random.default_rng(seed)
    angle = np.sort(random.random(corners)) * 2 * np.pi
    radius = random.uniform(*radii, corners)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_stars_with_holes_are_as_matplotlib_has_them(seed):
    image_size, size = (900, 1300), (71, 97)
    rings = [star(40, (600, 450), (300, 800), seed), star(9, (600, 450), (50, 250), seed + 100)]

    mask = polygon_mask(polygon(*rings), image_size, size)

    assert mask.dtype == torch.bool
    assert np.array_equal(mask.numpy(), judged(rings, image_size, size))
    assert mask.any()


@pytest.mark.parametrize("seed", range(10))
def test_self_crossing_scribbles_have_an_odd_number_of_edges_to_their_left(seed, monkeypatch):
    monkeypatch.setattr("zoomkern.images.places.polygons._CROSSINGS", 50)
    ring = np.random.default_rng(seed).uniform(-100, 400, (30, 2)).tolist()

    mask = polygon_mask(polygon(ring), (300, 300), (64, 50)).numpy()

    y, x = (np.arange(64) + 0.5) * 300 / 64, (np.arange(50) + 0.5) * 300 / 50
    begin, end = np.array(ring), np.roll(ring, -1, axis=0)
    for r, c in np.ndindex(64, 50):
        crosses = (begin[:, 1] > y[r]) != (end[:, 1] > y[r])
        at = begin[:, 0] + (y[r] - begin[:, 1]) * (end[:, 0] - begin[:, 0]) / np.where(
            crosses, end[:, 1] - begin[:, 1], 1
        )
        assert mask[r, c] == ((crosses & (at < x[c])).sum() % 2 == 1)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12))
def test_polygons_that_share_edges_have_each_centre_once(seed, rows, columns):
    """A jittered lattice of quadrilaterals covers the image; some corners lie on centres exactly."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.arange(5) * 3.0, np.arange(5) * 3.0, indexing="ij")
    inner = (slice(1, -1), slice(1, -1))
    y[inner] += random.integers(-2, 3, (3, 3)) / 2
    x[inner] += random.integers(-2, 3, (3, 3)) / 2
    total = torch.zeros(rows, columns, dtype=torch.int64)
    for i, j in np.ndindex(4, 4):
        corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)][:: 1 if random.random() < 0.5 else -1]
        total += polygon_mask(polygon([(x[at], y[at]) for at in corners]), (12, 12), (rows, columns)).long()

    assert (total == 1).all()


def test_polygons_that_overlap_join_and_holes_are_of_one_polygon_alone():
    square = [[0, 0], [6, 0], [6, 6], [0, 6], [0, 0]]
    hole = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    other = [[3, 3], [9, 3], [9, 9], [3, 9], [3, 3]]
    expected = np.zeros((10, 10), dtype=bool)
    expected[:6, :6] = True
    expected[2:4, 2:4] = False
    expected[3:9, 3:9] = True

    mask = polygon_mask({"type": "MultiPolygon", "coordinates": [[square, hole], [other]]}, (10, 10), (10, 10))

    assert np.array_equal(mask.numpy(), expected)


def test_coordinates_beyond_float32_are_exact():
    edge = float((1 << 24) + 1)
    ring = [[edge, 0.0], [edge + 1, 0.0], [edge + 1, 1.0], [edge, 1.0]]

    mask = polygon_mask(polygon(ring), (1, (1 << 24) + 4), (1, (1 << 24) + 4))

    assert mask[0].nonzero().flatten().tolist() == [(1 << 24) + 1]


def test_an_outline_of_many_corners_has_its_area():
    angle = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    radius = 40_000 + 3_000 * np.sin(angle * 5_000)
    ring = np.stack([50_000 + radius * np.cos(angle), 50_000 + radius * np.sin(angle)], axis=1).tolist()

    mask = polygon_mask({"type": "Polygon", "coordinates": [ring]}, (100_000, 100_000), (1000, 1000))

    assert float(mask.double().mean()) == pytest.approx(np.pi * (0.4**2 + 0.03**2 / 2), rel=1e-3)


def test_polygons_outside_of_the_image_are_an_error():
    far = polygon([(500_000, 5_000_000), (500_100, 5_000_000), (500_100, 5_000_100)])

    with pytest.raises(ValueError, match=r"must touch the image, 10 x 20 pixels; .* Map coordinates need transform="):
        polygon_mask(far, (10, 20), (5, 5))


def test_a_sliver_between_centres_is_an_empty_mask():
    assert not polygon_mask(polygon([(1.6, 1), (1.9, 1), (1.9, 9)]), (10, 10), (10, 10)).any()
    assert not polygon_mask(polygon([(1, 1.6), (9, 1.6), (9, 1.9)]), (10, 10), (10, 10)).any()

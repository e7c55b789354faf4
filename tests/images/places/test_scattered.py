"""random_places: a function of the seed alone, uniform where the mask allows."""

import pytest
import torch
from scipy.stats import chi2

import zoomkern
from zoomkern.images import share_at
from zoomkern.reference.random import philox

PLACES_OF_SEVEN = [[30105, 32223], [56145, 107451], [78127, 123972], [5311, 29834]]
SQUARE = torch.zeros(20, 30, dtype=torch.bool)
SQUARE[4:9, 10:14] = True


def test_the_seed_gives_the_same_places_on_every_machine():
    places = zoomkern.random_places((100_000, 171_359), 256, count=4, seed=7)

    assert places.dtype == torch.int64
    assert places.tolist() == PLACES_OF_SEVEN
    for number, place in enumerate(places.tolist()):
        counter = tuple(torch.tensor(word) for word in (number, 0, 0, 8))
        y_high, y_low, x_high, x_low = (int(word) for word in philox(counter, torch.tensor(7)))
        bits = (y_high << 32 | y_low, x_high << 32 | x_low)
        assert place == [bits[0] * (100_000 - 255) >> 64, bits[1] * (171_359 - 255) >> 64]


def test_a_shorter_list_begins_a_longer_one(monkeypatch):
    options = {"mask": SQUARE, "minimum": 0.4}
    long = zoomkern.random_places((2000, 3000), 64, 500, 1, **options)

    assert torch.equal(zoomkern.random_places((2000, 3000), 64, 20, 1, **options), long[:20])
    monkeypatch.setattr("zoomkern.images.places.scattered._TRIES_AT_A_TIME", 37)
    assert torch.equal(zoomkern.random_places((2000, 3000), 64, 500, 1, **options), long)
    assert not torch.equal(zoomkern.random_places((2000, 3000), 64, 500, 2, **options), long)


def test_torchs_generator_has_no_part_in_it():
    torch.manual_seed(1)
    first = zoomkern.random_places((50, 50), 8, 10, 0)
    state = torch.get_rng_state()
    torch.manual_seed(2)

    assert torch.equal(zoomkern.random_places((50, 50), 8, 10, 0), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_place_is_as_likely():
    """A chi-squared test: a false alarm once in 10^6 runs of random seeds, and the seed is fixed."""
    places = zoomkern.random_places((12, 9), (4, 3), 63_000, 0)
    counts = torch.bincount(places[:, 0] * 7 + places[:, 1], minlength=63).double()

    assert len(counts) == 63
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.isf(1e-6, 62)


def test_with_a_mask_every_place_that_is_covered_enough_is_as_likely():
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:4, 2:5] = True
    every = zoomkern.grid_places((12, 12), 3, 1, mask=mask, minimum=0.3)
    known = {tuple(place): number for number, place in enumerate(every.tolist())}

    places = zoomkern.random_places((12, 12), 3, 1000 * len(every), 5, mask=mask, minimum=0.3)

    counts = torch.zeros(len(every)).double()
    for place in places.tolist():
        counts[known[tuple(place)]] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < chi2.isf(1e-6, len(every) - 1)


def test_places_stay_inside_and_a_large_patch_hangs_over():
    places = zoomkern.random_places((30, 40), (30, 7), 1000, 0)
    assert (places[:, 0] == 0).all()
    assert (places[:, 1].min(), places[:, 1].max()) == (0, 33)

    assert (zoomkern.random_places((30, 40), 64, 10, 0, edge="cover") == 0).all()


def test_a_speck_of_a_mask_is_found():
    mask = torch.zeros(1000, 1000, dtype=torch.bool)
    mask[500, 500] = True

    places = zoomkern.random_places((100_000, 100_000), 128, 50, 0, mask=mask, minimum=0.5)

    assert (share_at(mask, places, 128, (100_000, 100_000)) >= 0.5).all()


def test_places_feed_gather():
    image = torch.arange(900, dtype=torch.float32).reshape(1, 30, 30)
    places = zoomkern.random_places((30, 30), 5, 6, 0)

    patches = zoomkern.gather_patches([image], places[None], 5)

    assert patches[0, :, 0, 0, 0].tolist() == (places[:, 0] * 30 + places[:, 1]).tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be between 1"),
        ({"seed": -1}, ValueError, "seed must be between 0"),
        ({"seed": 1.0}, TypeError, "seed must be an int"),
        ({"patch_size": 200}, ValueError, "patch_size must fit"),
        ({"mask": torch.zeros(4, 4, dtype=torch.bool)}, ValueError, "True somewhere"),
        ({"mask": torch.zeros(4, 4)}, TypeError, "mask must be bool"),
        ({"mask": SQUARE, "minimum": 2}, ValueError, "minimum must be a share"),
    ],
)
def test_bad_arguments_are_answered(options, error, message):
    with pytest.raises(error, match=message):
        zoomkern.random_places(**{"image_size": (100, 100), "patch_size": 8, "count": 5, "seed": 0, **options})


def test_a_mask_that_covers_no_patch_enough_is_given_up(monkeypatch):
    monkeypatch.setattr("zoomkern.images.places.scattered._TRIES", 1000)
    mask = torch.zeros(100, 100, dtype=torch.bool)
    mask[::2] = True

    with pytest.raises(ValueError, match="1320 tries found 0 of 5. Lower minimum="):
        zoomkern.random_places((100, 100), 10, 5, 0, mask=mask, minimum=0.9)

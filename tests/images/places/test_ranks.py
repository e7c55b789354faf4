"""for_rank: the ranks together have every place once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoomkern
from zoomkern.images import for_rank


@given(st.integers(0, 50), st.integers(1, 12))
def test_every_place_is_of_one_rank(count, world_size):
    places = torch.stack([torch.arange(count), torch.arange(count) * 3], dim=1)

    parts = [for_rank(places, rank, world_size) for rank in range(world_size)]

    joined = torch.cat(parts)
    assert torch.equal(joined[joined[:, 0].argsort()], places)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ranks_agree_without_talking():
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:8, 3:9] = True

    def part(rank):
        return for_rank(zoomkern.random_places((900, 900), 64, 101, seed=5, mask=mask), rank, 4)

    whole = zoomkern.random_places((900, 900), 64, 101, seed=5, mask=mask)
    assert sorted(place for rank in range(4) for place in part(rank).tolist()) == sorted(whole.tolist())
    assert torch.equal(part(2), part(2))


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_bad_ranks_are_answered(rank, world_size):
    with pytest.raises(ValueError, match="must be between"):
        for_rank(torch.zeros(3, 2), rank, world_size)

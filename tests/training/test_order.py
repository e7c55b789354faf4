import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.training.order import EpochBatches, LookingBatches, mixed


def batches(epoch=0, done=0, indices=range(10), size=4, rank=0, world=1, seed=0):
    return list(EpochBatches(indices, size, seed, lambda: (epoch, done), rank, world))


def test_an_epoch_holds_every_image_once():
    places = [place for batch in batches(indices=range(100, 110)) for place in batch]
    assert sorted(places) == [(i, 0) for i in range(100, 110)]


def test_epochs_differ_and_seeds_differ():
    assert batches() != [[(i, 0) for i, _ in batch] for batch in batches(1)]
    assert batches() != batches(seed=1)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 9), st.integers(0, 30))
def test_wherever_it_stops_it_goes_on_to_the_end_of_that_epoch(length, size, epoch, done):
    whole = batches(epoch, 0, range(length), size)
    assert batches(epoch, done, range(length), size) == whole[done:]
    assert {e for batch in whole for _, e in batch} == {epoch}


@given(st.integers(2, 30), st.integers(2, 9), st.integers(2, 3))
def test_ranks_share_the_joint_batch(length, size, world):
    if min(length, length % size or size, size) < world:
        with pytest.raises(ValueError, match="Choose another batch_size"):
            batches(0, 0, range(length), size, 0, world)
        return
    parts = [batches(5, 0, range(length), size, rank, world) for rank in range(world)]
    assert [sum(together, []) for together in zip(*parts, strict=True)] == batches(5, 0, range(length), size)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_looking_meets_every_image_once(world):
    places = [place for rank in range(world) for batch in LookingBatches(range(7), 2, rank, world) for place in batch]
    assert sorted(places) == [(i, -1) for i in range(7)]


def test_every_process_must_have_an_image_to_look_at():
    with pytest.raises(ValueError, match="each of 3 processes must have an image to look at; got 2"):
        LookingBatches(range(2), 4, 0, 3)


def test_mixed_seeds_are_those_of_splitmix():
    first = mixed(0, 1)
    assert first == 0xE220A8397B1DCDAF - 2**64  # SplitMix64's first output from seed 0
    assert mixed(0, 1, 2) == mixed(first, 2)
    assert len({mixed(7, epoch, image) for epoch in range(-1, 50) for image in range(50)}) == 51 * 50
    assert mixed(3) == 3
    assert isinstance(torch.Generator().manual_seed(mixed(5, 6)), torch.Generator)

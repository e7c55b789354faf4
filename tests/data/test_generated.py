"""Images that are made from their number alone."""

import pytest
import torch

from zoomkern.data.generated import GeneratedSet


class Numbers(GeneratedSet):
    """Each image is one random number."""

    def __init__(self, split="train", length=200, seed=0):
        super().__init__(["tails", "heads"], split, ("train", "test"), length, (1, 1), seed, self.coin)

    def image(self, index):
        return torch.tensor([[[self.generator(index).integers(1 << 62)]]])


def test_an_image_depends_on_seed_split_and_index_alone():
    numbers = [
        Numbers(split, seed=seed)[index].image.item()
        for split in ("train", "test")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(numbers)) == 8
    assert Numbers(length=1)[0].image.item() == numbers[0]
    assert Numbers().bank_generator().integers(1 << 62) not in numbers


def test_a_longer_set_begins_like_a_shorter_one():
    assert Numbers(length=201).labels[:99] == Numbers(length=99).labels
    assert Numbers(length=201).names[:99] == Numbers(length=99).names


def test_each_pair_has_one_of_each_class_in_random_order():
    labels = torch.tensor(Numbers(length=400).labels).view(-1, 2)
    assert (labels.sum(1) == 1).all()
    assert 65 <= labels[:, 0].sum() <= 135  # 100 of 200 expected; beyond by chance once in 10^6 seeds


def test_every_image_is_its_own_group_and_has_the_one_size():
    numbers = Numbers("test", 3)
    assert numbers.groups == numbers.names == ["test-000000", "test-000001", "test-000002"]
    assert numbers.size(2) == (1, 1)
    assert numbers[0].objects.shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"split": "valid"}, ValueError, "split"),
        ({"length": 0}, ValueError, "length"),
        ({"length": 2.0}, TypeError, "length"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments_are_named(arguments, error, name):
    with pytest.raises(error, match=name):
        Numbers(**arguments)

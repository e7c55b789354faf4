from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.training.folder.images import Found
from zoomkern.training.folder.shards import Shard, deal, parse_shard, shard_of


def found(sizes):
    return [Found(f"{number:03d}", Path(f"/{number:03d}"), size, 0) for number, size in enumerate(sizes)]


@given(st.lists(st.integers(0, 10**12), max_size=60), st.integers(1, 20), st.randoms())
def test_every_image_once_and_parts_of_about_as_many_bytes(sizes, count, random):
    images = found(sizes)
    parts = deal(images, count)
    assert len(parts) == count
    assert sorted(image for part in parts for image in part) == images
    loads = [sum(max(image.nbytes, 1) for image in part) for part in parts]
    for part, load in zip(parts, loads, strict=True):
        if part:  # the smallest came last, to the part that had the least
            assert load - max(min(image.nbytes for image in part), 1) <= min(loads)
    shuffled = list(images)
    random.shuffle(shuffled)
    assert deal(shuffled, count) == parts


def test_slides_of_very_different_sizes_are_balanced():
    sizes = [10**7 * (1 + 97 * number % 100) for number in range(1000)]
    loads = [sum(image.nbytes for image in part) for part in deal(found(sizes), 16)]
    assert max(loads) < 1.001 * min(loads)


@pytest.mark.parametrize(("text", "number", "parts"), [("1/1", 1, 1), ("3/16", 3, 16), ("16/16", 16, 16)])
def test_words(text, number, parts):
    assert parse_shard(text) == (number, parts, "--shard")


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_bad_words(text):
    with pytest.raises(ValueError, match="--shard must be NUMBER/COUNT, counted from 1"):
        parse_shard(text)


def slurm(task, least, most, count, step=1):
    names = {"ID": task, "MIN": least, "MAX": most, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("environment", "number", "parts"),
    [
        ({}, 1, 1),
        ({"RANK": "2", "WORLD_SIZE": "4"}, 3, 4),
        ({"WORLD_SIZE": "4"}, 1, 1),
        (slurm(0, 0, 15, 16), 1, 16),
        (slurm(16, 1, 16, 16), 16, 16),
        (slurm(10, 4, 10, 4, step=2), 4, 4),
        ({**slurm(1, 0, 2, 3), "RANK": "1", "WORLD_SIZE": "2"}, 4, 6),
    ],
)
def test_launchers(environment, number, parts):
    assert shard_of(environment)[:2] == (number, parts)


def test_an_array_with_gaps_is_no_guess():
    with pytest.raises(ValueError, match="which leave gaps"):
        shard_of(slurm(7, 3, 7, 2))


def test_a_shard_says_who_named_it():
    assert str(Shard(3, 16, "--shard")) == "shard 3/16 (--shard)"
    assert shard_of({"RANK": "0", "WORLD_SIZE": "2"}).source == "RANK"

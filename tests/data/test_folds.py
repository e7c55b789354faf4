"""Folds and hold-outs are partitions, balanced, whole in their groups, and the same for the same seed."""

import json
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.data.folds import fixed_folds, grouped_folds, holdout, stratified_folds

pytest.importorskip("sklearn")

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def labelled(draw, num_folds=1):
    """Labels of one to three classes, each with ``num_folds`` images at least, in any order."""
    counts = draw(st.lists(st.integers(num_folds, num_folds + 12), min_size=1, max_size=3))
    return draw(st.permutations([label for label, count in enumerate(counts) for _ in range(count)]))


def is_partition(folds, number):
    together = torch.cat(folds)
    return torch.equal(together.sort().values, torch.arange(number)) and all(
        fold.dtype == torch.int64 and torch.equal(fold, fold.sort().values) and len(fold) for fold in folds
    )


@given(data=st.data(), num_folds=st.integers(2, 6), seed=SEEDS)
def test_stratified_folds_hold_each_class_and_all_images_evenly(data, num_folds, seed):
    labels = data.draw(labelled(num_folds))
    folds = stratified_folds(labels, num_folds, seed)

    assert len(folds) == num_folds
    assert is_partition(folds, len(labels))
    for own in [[[i for i in fold if labels[i] == label] for fold in folds] for label in set(labels)] + [folds]:
        sizes = [len(part) for part in own]
        assert max(sizes) - min(sizes) <= 1
    assert all(map(torch.equal, folds, stratified_folds(labels, num_folds, seed)))


@given(data=st.data(), num_folds=st.integers(2, 5), seed=SEEDS)
def test_grouped_folds_divide_no_group(data, num_folds, seed):
    labels = data.draw(labelled(num_folds))
    # the first images of every class are groups of their own, so that each class has enough of them
    seen = Counter()
    groups = []
    for label in labels:
        seen[label] += 1
        few = f"{label}-{seen[label]}"
        groups.append(few if seen[label] <= num_folds else data.draw(st.sampled_from(["a", "b", "c"])))
    folds = grouped_folds(labels, groups, num_folds, seed)

    assert len(folds) == num_folds
    assert is_partition(folds, len(labels))
    where = [{groups[i] for i in fold} for fold in folds]
    assert sum(map(len, where)) == len(set(groups))
    assert all(map(torch.equal, folds, grouped_folds(labels, groups, num_folds, seed)))


def test_the_seed_matters():
    labels = [0, 1] * 20
    groups = list(range(40))
    for make in (lambda seed: stratified_folds(labels, 4, seed), lambda seed: grouped_folds(labels, groups, 4, seed)):
        assert not all(map(torch.equal, make(0), make(1)))
    assert not torch.equal(holdout(labels, seed=0)[1], holdout(labels, seed=1)[1])


def test_equal_groups_are_balanced():
    labels = [0, 0, 1, 1] * 15
    folds = grouped_folds(labels, [i // 4 for i in range(60)], 5, seed=2)
    assert [Counter(labels[i] for i in fold) for fold in folds] == [Counter({0: 6, 1: 6})] * 5


def test_too_many_folds_are_an_error_that_says_how_many_there_may_be():
    with pytest.raises(ValueError, match="num_folds must be at most 2, the images of class 1; got 3"):
        stratified_folds([0, 0, 0, 1, 1], 3, seed=0)
    with pytest.raises(ValueError, match="num_folds must be at most 2, the groups of class 1; got 3"):
        grouped_folds([0, 0, 0, 1, 1, 1], ["a", "b", "c", "d", "e", "e"], 3, seed=0)
    with pytest.raises(ValueError, match="num_folds must be between 2"):
        stratified_folds([0, 0], 1, seed=0)
    with pytest.raises(ValueError, match="labels must not be empty"):
        stratified_folds([], 2, seed=0)
    with pytest.raises(ValueError, match="groups must be as many as labels; got 1 and 2"):
        grouped_folds([0, 0], ["a"], 2, seed=0)


def test_without_scikit_learn_one_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"need scikit-learn: pip install 'zoomkern\[data\]'"):
        stratified_folds([0, 0], 2, seed=0)


NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_fixed_folds_are_read(tmp_path, first, kind):
    number_of = {"d": first, "c": first + 1, "a": first, "b": first + 1}
    path = tmp_path / f"folds.{kind}"
    lines = [f"{name},{fold}" for name, fold in number_of.items()]
    path.write_text(json.dumps(number_of) if kind == "json" else "\n".join(["name,fold", *lines]))
    assert [fold.tolist() for fold in fixed_folds(NAMES, path)] == [[0, 3], [1, 2]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.json", '{"a": 0, "b": 1, "c": 0}', "has no fold for 'd'"),
        ("f.json", '{"a": 0, "b": 1, "c": 0, "d": 0, "e": 1}', "has a fold for 'e', which the set does not have"),
        ("f.json", '{"a": 0, "b": 2, "c": 0, "d": 0}', r"without a gap; it has \[0, 2\]"),
        ("f.json", '{"a": 2, "b": 3, "c": 2, "d": 2}', "from 0 or 1"),
        ("f.json", '{"a": 0, "b": 0, "c": 0, "d": 0}', r"it has \[0\]"),
        ("f.json", '{"a": 0, "b": 1, "c": 0, "d": 0, "a": 1}', "has 'a' twice"),
        ("f.json", '{"a": 0.5, "b": 1, "c": 0, "d": 0}', "whole numbers"),
        ("f.json", "[0, 1]", "whole numbers"),
        ("f.json", "{", "is no JSON"),
        ("f.csv", "name,fold\na,0\na,1\nb,0\nc,0\nd,0\n", "has 'a' twice"),
        ("f.csv", "name,part\na,0\n", "must have the columns name and fold"),
        ("f.csv", "name,fold\na\n", "must have the columns name and fold"),
        ("f.csv", "name,fold\na,x\n", "must have the columns name and fold"),
    ],
)
def test_folds_of_another_set_or_a_broken_file_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        fixed_folds(NAMES, tmp_path / name)


def test_a_missing_file_of_folds_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.json"):
        fixed_folds(NAMES, tmp_path / "none.json")


@given(labels=labelled(8), share=st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.9]), seed=SEEDS)
def test_a_holdout_without_groups_has_each_class_within_half_an_image_of_its_share(labels, share, seed):
    parts = holdout(labels, share=share, seed=seed)

    assert is_partition(parts, len(labels))
    for label in set(labels):
        held = sum(labels[i] == label for i in parts[1])
        assert abs(held - share * labels.count(label)) <= 0.5 + 1e-9  # 0.9 n is rounded
    assert all(map(torch.equal, parts, holdout(labels, share=share, seed=seed)))


@given(data=st.data(), share=st.sampled_from([0.2, 0.5]), seed=SEEDS)
def test_a_holdout_divides_no_group_and_is_near_its_share(data, share, seed):
    labels = data.draw(labelled(12))
    groups = [data.draw(st.integers(0, 4)) if i % 2 else -i for i in range(len(labels))]
    parts = holdout(labels, groups, share, seed)

    assert is_partition(parts, len(labels))
    inside = [{groups[i] for i in part} for part in parts]
    assert not inside[0] & inside[1]
    # no group of one image could be added, or taken away again, to come nearer
    held = Counter(labels[i] for i in parts[1])
    short = {label: share * labels.count(label) - held[label] for label in set(labels)}
    singles = [i for i in parts[0] if groups.count(groups[i]) == 1]
    assert all(short[labels[i]] <= 0.5 + 1e-9 for i in singles)


def test_a_holdout_of_some_images_leaves_the_others_alone():
    fold = torch.arange(0, 40, 4)
    rest = [i for i in range(40) if i % 4]
    for indices in (rest, torch.tensor(rest)):
        training, validation = holdout([0, 1] * 20, share=0.2, indices=indices)
        assert sorted(torch.cat([training, validation]).tolist()) == rest
        assert not set(fold.tolist()) & set(validation.tolist())
        assert len(validation) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0}, "share must be between 0 and 1; got 0"),
        ({"share": 1.0}, "share must be between 0 and 1"),
        ({"share": 0.01}, "share must leave images in both parts; 0.01 of 4 images in 4 groups"),
        ({"groups": ["a"] * 4}, "share must leave images in both parts; 0.5 of 4 images in 1 groups"),
        ({"groups": ["a"]}, "groups must be as many as labels"),
        ({"indices": [0, 4]}, "indices must lie below 4"),
        ({"indices": [-1, 2]}, "indices must lie below 4"),
        ({"indices": [2, 2]}, "indices must be different"),
        ({"indices": []}, "of 0 images"),
        ({"seed": -1}, "seed must be between 0"),
    ],
)
def test_holdouts_that_cannot_be_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        holdout([0, 0, 1, 1], **{"share": 0.5, **arguments})

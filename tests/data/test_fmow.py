"""Functional Map of the World: a miniature in its layout."""

import json

import pytest

from zoomkern.data.fmow import FMoW


def describe(path, *boxes):
    path.with_suffix(".json").write_text(json.dumps({"gsd": 0.5, "bounding_boxes": list(boxes)}))


@pytest.fixture
def places(tmp_path, save_picture):
    for place, number in (("airport_2", 0), ("airport_10", 1), ("airport_2", 10), ("airport_2", 9), ("zoo_0", 0)):
        kind = place.split("_")[0]
        path = save_picture(tmp_path / "train" / kind / place / f"{place}_{number}_rgb.jpg", (30, 40))
        save_picture(path.with_name(path.name.replace("_rgb", "_msrgb")))
        describe(
            path,
            {"ID": 1, "category": kind, "box": [3, 4, 10, 20]},
            {"ID": -1, "category": "false_detection", "box": [0, 0, 5, 5]},
        )
    return tmp_path


def test_places_are_groups_and_come_in_their_order(places):
    images = FMoW(places)
    assert images.classes == ["airport", "zoo"]
    assert images.names == ["airport_2_0", "airport_2_9", "airport_2_10", "airport_10_1", "zoo_0_0"]
    assert images.labels == [0, 0, 0, 0, 1]
    assert images.groups == ["train/airport_2"] * 3 + ["train/airport_10", "train/zoo_0"]
    assert images[0].image.shape == (3, 30, 40)


def test_objects_are_the_boxes_of_the_class(places):
    assert FMoW(places)[4].objects.tolist() == [[3, 4, 13, 24]]


def test_some_classes_may_be_taken(places):
    images = FMoW(places, classes=["zoo"])
    assert (images.classes, images.names) == (["zoo"], ["zoo_0_0"])
    with pytest.raises(FileNotFoundError, match="dam"):
        FMoW(places, classes=["zoo", "dam"])


def test_one_box_without_a_list_is_read(places):
    path = places / "train" / "zoo" / "zoo_0" / "zoo_0_0_rgb.json"
    path.write_text(json.dumps({"bounding_boxes": {"category": "zoo", "box": [1, 2, 3, 4]}}))
    assert FMoW(places).objects(4).tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no description"),
        ("[]", "is no description"),
        ('{"bounding_boxes": [{"category": "zoo"}]}', "is no description"),
        ('{"bounding_boxes": [{"category": "dam", "box": [1, 2, 3, 4]}]}', "has no box of 'zoo'"),
        ('{"bounding_boxes": []}', "has no box of 'zoo'"),
        ('{"bounding_boxes": [{"category": "zoo", "box": [1, 2, 3]}]}', r"must have boxes \[x, y, width, height\]"),
        ('{"bounding_boxes": [{"category": "zoo", "box": [1, 2, -3, 4]}]}', "must have boxes"),
        ('{"bounding_boxes": [{"category": "zoo", "box": [1, 2, NaN, 4]}]}', "must have boxes"),
        ('{"bounding_boxes": [{"category": "zoo", "box": ["1", 2, 3, 4]}]}', "must have boxes"),
    ],
)
def test_a_bad_description_is_named(places, text, message):
    (places / "train" / "zoo" / "zoo_0" / "zoo_0_0_rgb.json").write_text(text)
    with pytest.raises(ValueError, match=f"zoo_0_0_rgb.json' {message}"):
        FMoW(places).objects(4)


def test_what_is_missing_is_named(places):
    with pytest.raises(ValueError, match="split must be one of 'train', 'val'"):
        FMoW(places, "valid")
    with pytest.raises(FileNotFoundError, match="val"):
        FMoW(places, "val")
    (places / "val").mkdir()
    with pytest.raises(ValueError, match="val' holds no class"):
        FMoW(places, "val")
    (places / "train" / "dam" / "dam_0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"dam' holds no image that ends in _rgb.jpg"):
        FMoW(places)
    (places / "train" / "zoo" / "zoo_0" / "zoo_0_0_rgb.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"zoo_0_0_rgb.jpg' lacks its description zoo_0_0_rgb.json"):
        FMoW(places, classes=["zoo"])

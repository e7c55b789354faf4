"""Traffic signs: a miniature in the set's own form, and scenes from two folders."""

import pytest

from zoomkern.data.traffic import TrafficScenes, TrafficSigns

LINES = """1277104195Image000001.jpg:
1277104195Image000002.jpg:MISC_SIGNS;MISC_SIGNS;
1277104195Image000003.jpg:VISIBLE, 20.0, 14.5, 10.0, 4.5, PROHIBITORY, 70_SIGN;
1277104196Image000001.jpg:VISIBLE, 9.0, 9.0, 5.0, 5.0, PROHIBITORY, 50_SIGN;VISIBLE, 23.0, 15.0, 13.0, 5.0a, PROHIBITORY, 80_SIGN;MISC_SIGNS;
1277104196Image000002.jpg:BLURRED, 20.0, 14.0, 10.0, 4.0, PROHIBITORY, 70_SIGN;
1277104196Image000003.jpg:VISIBLE, 20.0, 14.0, 10.0, 4.0, INFORMATION, PEDESTRIAN_CROSSING;
1277104197Image000001.jpg:OCCLUDED, 24.0, 16.0, 1.0, 1.0, PROHIBITORY, 80_SIGN;VISIBLE, 9.0, 9.0, 5.0, 5.0, PROHIBITORY, 50_SIGN;VISIBLE, 4.0, 4.0, 2.0, 2.0, PROHIBITORY, 50_SIGN;
"""  # noqa: E501
KEPT = {
    "1277104195Image000001.jpg": "EMPTY",
    "1277104195Image000002.jpg": "EMPTY",
    "1277104195Image000003.jpg": "70_SIGN",
    "1277104196Image000001.jpg": "80_SIGN",
    "1277104197Image000001.jpg": "50_SIGN",
}


@pytest.fixture
def signs(tmp_path, save_picture):
    """Both sets; the training images lie where their archive puts them, the test set has but one empty scene."""
    root = tmp_path / "signs"
    for name in KEPT:
        save_picture(root / "Set1" / "Set1Part0" / name)
    (root / "Set1" / "annotations.txt").write_text(LINES)
    save_picture(root / "Set2Part0" / "5Image1.jpg")
    (root / "Set2Part0" / "annotations.txt").write_text("5Image1.jpg:\n\n")
    return root


def test_the_most_visible_and_largest_limit_is_the_label(signs):
    images = TrafficSigns(signs)
    assert {name: images.classes[label] for name, label in zip(images.names, images.labels, strict=True)} == KEPT
    assert images.groups == ["1277104195"] * 3 + ["1277104196", "1277104197"]


def test_the_splits_are_the_two_sets(signs):
    assert TrafficSigns(signs, "test").names == ["5Image1.jpg"]
    with pytest.raises(ValueError, match="split must be one of 'train', 'test'"):
        TrafficSigns(signs, "valid")


def test_objects_are_the_visible_signs_of_the_limit(signs):
    images = TrafficSigns(signs)
    assert images[0].objects.shape == (0, 4)
    assert images[2].objects.tolist() == [[10, 4.5, 20, 14.5]]
    assert images[3].objects.tolist() == [[13, 5, 23, 15]]
    assert images[4].objects.tolist() == [[5, 5, 9, 9], [2, 2, 4, 4]]
    assert images[4].image.shape == (3, 16, 24)


def test_all_signs_are_told(signs):
    first, *others = TrafficSigns(signs).signs(4)
    assert first == ("OCCLUDED", (1, 1, 24, 16), "PROHIBITORY", "80_SIGN")
    assert [sign.name for sign in others] == ["50_SIGN", "50_SIGN"]


def test_what_is_missing_is_named(signs):
    with pytest.raises(FileNotFoundError, match=r"neither Set1/annotations.txt nor Set1Part0/annotations.txt"):
        TrafficSigns(signs / "Set2Part0")
    (signs / "Set1" / "Set1Part0" / "1277104195Image000003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1277104195Image000003.jpg', which line 3 of .*annotations.txt"):
        TrafficSigns(signs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no colon", "line 2 of .* must be 'image:signs'"),
        ("5Image2.jpg:VISIBLE, 1, 2, 3, PROHIBITORY, 50_SIGN;", "line 2 of .* per sign; got 'VISIBLE, 1, 2"),
        ("5Image2.jpg:VISIBLE, 1, 2, 3, x, PROHIBITORY, 50_SIGN;", "line 2 of .* per sign"),
        ("../../secret.jpg:", "line 2 of .* leads out of"),
        ("5Image1.jpg:", "names must be unique"),
    ],
)
def test_a_bad_line_is_named(signs, line, message):
    with (signs / "Set2Part0" / "annotations.txt").open("a") as file:
        file.seek(0)
        file.truncate()
        file.write(f"5Image1.jpg:\n{line}\n")
    with pytest.raises(ValueError, match=message):
        TrafficSigns(signs, "test")


def test_annotations_that_are_no_text_are_named(signs):
    (signs / "Set2Part0" / "annotations.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match=r"annotations.txt' is no text"):
        TrafficSigns(signs, "test")


def test_scenes_come_from_two_folders(tmp_path, save_picture):
    for name in ("positive/7Image1.jpg", "negative/7Image2.jpg", "negative/other.jpg"):
        save_picture(tmp_path / name)
    scenes = TrafficScenes(tmp_path)

    assert list(zip(scenes.names, scenes.labels, scenes.groups, strict=True)) == [
        ("7Image2.jpg", 0, "7"),
        ("other.jpg", 0, "other.jpg"),
        ("7Image1.jpg", 1, "7"),
    ]
    assert scenes[2].objects.shape == (0, 4)


def test_a_scene_cannot_be_in_both_folders_and_none_may_be_empty(tmp_path, save_picture):
    save_picture(tmp_path / "positive" / "1Image1.jpg")
    with pytest.raises(FileNotFoundError, match="negative"):
        TrafficScenes(tmp_path)
    (tmp_path / "negative").mkdir()
    with pytest.raises(ValueError, match="negative' holds no image"):
        TrafficScenes(tmp_path)
    save_picture(tmp_path / "negative" / "1Image1.jpg")
    with pytest.raises(ValueError, match=r"'1Image1.jpg' occurs 2 times"):
        TrafficScenes(tmp_path)


def test_the_real_scenes(real_data):
    scenes = TrafficScenes(real_data("traffic"))

    assert [scenes.labels.count(label) for label in (0, 1)] == [21, 34]
    assert {scenes.size(index) for index in range(55)} == {(960, 1280)}
    assert len(set(scenes.groups)) == 50
    assert all(group.isdigit() for group in scenes.groups)
    assert scenes[54].image.shape == (3, 960, 1280)

"""Image sets of one's own: folders and tables."""

import pytest

from zoomkern.data.folder import ImageFolder, ImageTable


@pytest.fixture
def folder(tmp_path, save_picture):
    root = tmp_path / "root"
    for name in ("dog/p1_a.png", "cat/p1_a.png", "cat/deep/p2_b.jpg", ".cache/x.png"):
        save_picture(root / name)
    (root / "README.txt").write_text("")
    return root


def test_folders_are_classes(folder):
    images = ImageFolder(folder)
    assert images.classes == ["cat", "dog"]
    assert images.names == ["cat/deep/p2_b.jpg", "cat/p1_a.png", "dog/p1_a.png"]
    assert images.labels == [0, 0, 1]
    assert images.groups == images.names
    assert images[1].image.shape == (3, 16, 24)


@pytest.mark.parametrize("group", [r"p\d", r"(p\d)_[ab]\."])
def test_a_pattern_makes_groups(folder, group):
    assert ImageFolder(folder, group=group).groups == ["p2", "p1", "p1"]


def test_a_pattern_that_misses_a_name_is_an_error(folder):
    with pytest.raises(ValueError, match=r"group must match .* 'p1' finds none in 'cat/deep/p2_b.jpg'"):
        ImageFolder(folder, group="p1")


def test_folders_without_images_and_roots_without_folders_are_errors(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' must hold images"):
        ImageFolder(folder)
    with pytest.raises(ValueError, match="deep' holds no folder"):
        ImageFolder(folder / "cat" / "deep")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(folder / "nowhere")


def test_links_may_loop_but_not_lead_out(folder, save_picture):
    before = ImageFolder(folder).names
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    assert ImageFolder(folder).names == before
    save_picture(folder.parent / "out" / "z.png")
    (folder / "dog" / "out").symlink_to(folder.parent / "out")
    with pytest.raises(ValueError, match="dog/out/z.png', which leads out of"):
        ImageFolder(folder)
    assert ImageFolder(folder, follow_links=True).names == [*before[:2], "dog/out/z.png", "dog/p1_a.png"]


@pytest.fixture
def table(folder):
    def write(text, name="table.csv", **options):
        (folder / name).write_text(text, encoding=options.pop("encoding", "utf-8"))
        return folder / name

    return write


TABLE = """image,label,patient,split,note
dog/p1_a.png,10,a,train,"x, y"
cat/p1_a.png,2,a,train,
cat/deep/p2_b.jpg,10,b,test,
"""


def test_a_table_lists_images_of_its_own_folder(table):
    images = ImageTable(table(TABLE))
    assert images.classes == ["2", "10"]
    assert images.names == ["dog/p1_a.png", "cat/p1_a.png", "cat/deep/p2_b.jpg"]
    assert images.labels == [1, 0, 1]
    assert images.groups == images.names
    assert images[2].image.shape == (3, 16, 24)


def test_splits_have_the_classes_of_the_whole_table(table):
    images = ImageTable(table(TABLE), split="test", group_column="patient")
    assert (images.classes, images.labels, images.groups) == (["2", "10"], [1], ["b"])


def test_a_column_named_group_is_the_group(table):
    text = TABLE.replace("patient", "group")
    assert ImageTable(table(text)).groups == ["a", "a", "b"]
    assert ImageTable(table(text, encoding="utf-8-sig")).groups == ["a", "a", "b"]


def test_classes_may_be_given(table):
    assert ImageTable(table(TABLE), classes=["10", "5", "2"]).labels == [0, 2, 0]
    with pytest.raises(ValueError, match=r"line 3 of .*table.csv' has the label '2'; classes are '10'"):
        ImageTable(table(TABLE), classes=["10"])


def test_a_root_may_lie_elsewhere(folder, table):
    assert ImageTable(table("image,label\np1_a.png,a\n"), root=folder / "dog").size(0) == (16, 24)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("image,kind\na,b\n", {}, "must have a column 'label'; it has image, kind"),
        ("image;label\na;b\n", {}, "must have a column 'image'; it has image;label. Separate columns by commas"),
        ("", {}, "must have a column 'image'"),
        ("image,label\n", {}, "has no row"),
        (TABLE, {"split": "valid"}, "no row of split 'valid'; there are 'test', 'train'"),
        (TABLE, {"group_column": "drive"}, "must have a column 'drive'"),
        ("image,label\na,b\n", {"split": "train"}, "must have a column 'split'"),
        ("image,label\ndog/p1_a.png\n", {}, "line 2 of .* must have image, label"),
        ("image,label\ndog/p1_a.png,\n", {}, "line 2 of .* must have image, label"),
        ("image,label\ndog/p1_a.png,a,b\n", {}, "line 2 of .* must have image, label"),
        ("image,label,group\ndog/p1_a.png,a,\n", {}, "line 2 of .* has no group"),
        ("image,label\n../table.csv,a\n", {}, "line 2 of .* leads out of"),
        ("image,label\n/etc/passwd,a\n", {}, "line 2 of .* leads out of"),
        ('image,label\n"dog,a\n', {}, "is no table in UTF-8"),
        ("image,label\ndog/p1_a.png,a\ndog/p1_a.png,b\n", {}, "'dog/p1_a.png' occurs 2 times"),
    ],
)
def test_a_bad_table_is_named(table, text, options, message):
    with pytest.raises(ValueError, match=message):
        ImageTable(table(text), **options)


def test_missing_files_are_named(folder, table):
    with pytest.raises(FileNotFoundError, match=r"none.png', which line 2 of .*table.csv"):
        ImageTable(table("image,label\nnone.png,a\n"))
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        ImageTable(folder / "none.csv")
    (folder / "bytes.csv").write_bytes(b"image,label\n\xff,a\n")
    with pytest.raises(ValueError, match=r"bytes.csv' is no table in UTF-8"):
        ImageTable(folder / "bytes.csv")

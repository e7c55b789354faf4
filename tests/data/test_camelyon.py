"""Camelyon16: a miniature in its layout."""

import pytest
import torch

from zoomkern import gather_patches
from zoomkern.data.camelyon import Camelyon16
from zoomkern.data.outlines import total_area

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

XML = (
    '<ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" PartOfGroup="{}"><Coordinates>'
    '<Coordinate Order="0" X="2" Y="4"/><Coordinate Order="1" X="10" Y="4"/><Coordinate Order="2" X="10" Y="12"/>'
    "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
)


@pytest.fixture
def slides(tmp_path, save_picture):
    for name in ("training/normal/normal_001", "training/tumor/tumor_001", "testing/images/test_001"):
        save_picture(tmp_path / f"{name}.tif", compression="raw")
    save_picture(tmp_path / "testing/images/test_002.tif")
    (tmp_path / "testing/reference.csv").write_text("test_001,Normal,None,None\ntest_002,Tumor,IDC,Macro\n")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/tumor_001.xml").write_text(XML.format("_0"))
    return tmp_path


def test_training_slides_have_the_class_of_their_folder(slides):
    images = Camelyon16(slides)
    assert (images.classes, images.names, images.labels) == (["normal", "tumor"], ["normal_001", "tumor_001"], [0, 1])
    assert images[0].image.shape == (3, 16, 24)
    assert images.size(1) == (16, 24)


def test_test_slides_have_the_class_of_the_table(slides):
    assert Camelyon16(slides, "test").labels == [0, 1]
    with pytest.raises(ValueError, match="split must be one of 'train', 'test'"):
        Camelyon16(slides, "val")


def test_objects_are_boxes_around_the_lesions(slides):
    images = Camelyon16(slides)
    assert images.objects(0).shape == (0, 4)
    assert images.polygons(0) == []
    assert images.objects(1).tolist() == [[2, 4, 10, 12]]
    assert Camelyon16(slides, downsample=2).objects(1).tolist() == [[1, 2, 5, 6]]
    (slides / "annotations/tumor_001.xml").write_text(XML.format("_2"))
    assert images.objects(1).shape == (0, 4)
    assert images.polygons(1)[0].is_hole


def test_areas_are_the_lesions_less_their_holes(slides):
    images = Camelyon16(slides)
    assert len(images.areas(0)) == 0
    areas = images.areas(1)
    covered = float((areas[:, 2:] - areas[:, :2]).prod(1).sum())
    assert covered == pytest.approx(total_area(images.polygons(1)), rel=0.02)
    boxes = images.objects(1)
    assert covered <= float((boxes[:, 2:] - boxes[:, :2]).prod(1).sum())


def test_annotations_may_lie_where_their_archive_was(slides):
    (slides / "annotations").rename(slides / "training/lesion_annotations")
    assert len(Camelyon16(slides).polygons(1)) == 1


def test_annotations_may_be_absent_as_a_whole_but_not_of_one_slide(slides):
    (slides / "annotations/tumor_001.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"tumor_001.xml"):
        Camelyon16(slides).polygons(1)
    (slides / "annotations").rmdir()
    images = Camelyon16(slides)
    assert not images.is_annotated
    assert images.objects(1).shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ("name,label\ntest_001,Tumor\ntest_002,Normal\n", [1, 0]),
        ("test_002.tif,tumor,IDC,Macro\ntest_001.tif,normal\ntest_049,Normal\n", [0, 1]),
    ],
)
def test_the_tables_that_go_around_are_read(slides, rows, labels):
    (slides / "testing/reference.csv").write_text(rows)
    assert Camelyon16(slides, "test").labels == labels


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("test_001,Normal\n", "has no row of the slide 'test_002'"),
        ("test_001,Normal\ntest_002,Tumor\ntest_003,Tumor\n", "names 'test_003', of which there is no slide"),
        ("test_001,Normal\ntest_002,Maybe\n", "must have 'slide,Normal' or 'slide,Tumor'"),
        ("test_001,Normal\ntest_002\n", "must have 'slide,Normal' or 'slide,Tumor'"),
    ],
)
def test_slides_and_labels_must_agree(slides, rows, message):
    (slides / "testing/reference.csv").write_text(rows)
    with pytest.raises(ValueError, match=message):
        Camelyon16(slides, "test")


def test_what_is_missing_is_named(slides):
    (slides / "testing/reference.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"reference.csv' is no table"):
        Camelyon16(slides, "test")
    (slides / "testing/reference.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"reference.csv"):
        Camelyon16(slides, "test")
    (slides / "training/tumor/tumor_001.tif").unlink()
    with pytest.raises(ValueError, match="tumor' holds no slide"):
        Camelyon16(slides)
    with pytest.raises(FileNotFoundError, match=r"training/normal"):
        Camelyon16(slides / "annotations")


def test_a_slide_stays_in_its_file(slides):
    path = slides / "training/normal/normal_001.tif"
    tifffile.imwrite(path, None, shape=(100_000, 90_000, 3), dtype="uint8", bigtiff=True)  # sparse
    images = Camelyon16(slides)
    assert images.size(0) == (100_000, 90_000)
    slide = images.image(0)
    assert slide.shape == (3, 100_000, 90_000)
    assert gather_patches([slide], torch.tensor([[[77_000, 88_000]]]), 8).shape == (1, 1, 3, 8, 8)


def test_a_truncated_slide_is_named(slides):
    path = slides / "training/normal/normal_001.tif"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(OSError, match=r"normal_001.tif"):
        Camelyon16(slides).image(0).levels[0].whole()

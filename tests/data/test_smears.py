"""Fields and white cells, from a miniature of BCCD with painted cells, and from the real set."""

from pathlib import Path

import numpy as np
import pytest

from zoomkern.data.smears import FIELD, MARGIN, load_smears, stained

image = pytest.importorskip("PIL.Image")

PLASMA, RED, PURPLE = (220, 215, 205), (185, 135, 135), (90, 60, 170)
WHOLE = (330, 200, 480, 340)  # where the usual white cell lies, xyxy


def write(root: Path, name: str, white=(WHOLE,), unboxed=(), red=True, gain=1.0) -> None:
    """A smear of red discs on a grid, with white cells that have a box and others that have none."""
    picture = np.empty((480, 640, 3))
    picture[:] = PLASMA
    y, x = np.mgrid[:480, :640]
    reds = [(40 + 80 * c, 40 + 80 * r) for r in range(6) for c in range(8)] if red else []
    if red:
        picture[np.hypot(x % 80 - 40, y % 80 - 40) < 30] = RED
    for x0, y0, x1, y1 in (box for box in (*white, *unboxed) if box[2] > box[0]):
        inside = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 < 1
        picture[inside] = PURPLE
    boxes = [("RBC", (cx - 30, cy - 30, cx + 30, cy + 30)) for cx, cy in reds] + [("WBC", box) for box in white]
    tags = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for kind, b in boxes
    )
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{tags}</annotation>")
    pixels = np.rint(np.clip(picture * gain, 0, 255)).astype(np.uint8)
    image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=98, subsampling=0)
    with open(root / "ImageSets" / "Main" / "train.txt", "a") as file:
        file.write(f"{name}\n")


def purple(pixels):
    red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
    return (blue - green > 50) & (red < 170)


@pytest.mark.parametrize("below", [False, True], ids=["the folder itself", "the one above"])
def test_fields_have_no_white_cell_and_cells_come_with_their_margin(tmp_path, below):
    write(tmp_path / "BCCD", "a")
    smears = load_smears(tmp_path if below else tmp_path / "BCCD", "train")
    assert smears.fields.shape[1:] == (FIELD, FIELD, 3)
    assert 1 <= len(smears.fields) <= 2
    assert not purple(smears.fields).any()
    (cell,) = smears.cells
    assert cell.shape == (140 + 2 * MARGIN, 150 + 2 * MARGIN, 3)
    assert purple(cell[MARGIN:-MARGIN, MARGIN:-MARGIN]).mean() == pytest.approx(np.pi / 4, abs=0.02)
    assert not purple(cell[: MARGIN - 2]).any()


def test_white_cells_without_a_box_are_kept_out_of_fields(tmp_path):
    write(tmp_path, "a", unboxed=[(20, 20, 140, 140)])
    for field in load_smears(tmp_path, "train").fields:
        assert purple(field).sum() <= 700


@pytest.mark.parametrize(
    "others",
    [
        [(0, 100, 150, 250)],  # touches the edge
        [(100, 100, 180, 240)],  # too small
        [(60, 100, 290, 250)],  # too large
        [(60, 60, 180, 200), (185, 60, 305, 200)],  # touch each other
    ],
)
def test_white_cells_that_are_not_whole_and_alone_are_left_out(tmp_path, others):
    write(tmp_path, "a", white=others)
    write(tmp_path, "b")
    (cell,) = load_smears(tmp_path, "train").cells
    assert cell.shape[:2] == (140 + 2 * MARGIN, 150 + 2 * MARGIN)


def test_every_image_comes_in_the_common_stain_and_its_own_can_be_put_back(tmp_path):
    write(tmp_path, "bright")
    write(tmp_path, "dark", gain=0.7)
    smears = load_smears(tmp_path, "train")
    bright, dark = smears.cells
    assert np.median(np.abs(bright.astype(int) - dark)) <= 1  # rounded twice
    plasma = np.array([stained(dark[:4, :4], *stain).mean((0, 1)) for stain in smears.stains])
    np.testing.assert_allclose(plasma[0], PLASMA, atol=4)  # a JPEG's error and two roundings, times gains up to 1.4
    np.testing.assert_allclose(plasma[1], 0.7 * np.array(PLASMA), atol=4)


def test_a_stain_rounds_and_stays_within_eight_bits():
    pixels = np.array([[[0, 100, 200]]], np.uint8)
    np.testing.assert_array_equal(stained(pixels, np.array([1.0, 0.5, 2.0]), np.array([-5, 0.6, 0])), [[[0, 51, 255]]])


def test_without_lists_the_images_are_divided_at_random_but_always_alike(tmp_path):
    names = [f"image{number}" for number in range(10)]
    for number, name in enumerate(names):
        write(tmp_path, name, white=[(330, 200, 430 + number, 320)])
    for file in (tmp_path / "ImageSets" / "Main").iterdir():
        file.unlink()
    (tmp_path / "ImageSets" / "Main").rmdir()
    widths = {
        split: {cell.shape[1] for cell in load_smears(tmp_path, split).cells} for split in ("train", "val", "test")
    }
    assert [len(widths[split]) for split in ("train", "val", "test")] == [6, 2, 2]
    assert len(set.union(*widths.values())) == 10


def test_an_image_without_boxes_of_red_cells_is_left_out(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", red=False)
    assert len(load_smears(tmp_path, "train").stains) == 1


def test_a_split_without_white_cells_or_fields_is_refused(tmp_path):
    write(tmp_path / "none", "a", white=[])
    with pytest.raises(ValueError, match="must show a white cell"):
        load_smears(tmp_path / "none", "train")
    write(
        tmp_path / "full",
        "a",
        unboxed=[(20 + 120 * c, 20 + 120 * r, 120 + 120 * c, 120 + 120 * r) for r in range(4) for c in range(5)],
    )
    with pytest.raises(ValueError, match="a field of 256"):
        load_smears(tmp_path / "full", "train")


def test_boxes_beyond_the_edge_are_cut_and_empty_ones_dropped(tmp_path):
    write(tmp_path, "a", white=[WHOLE, (600, 440, 600, 470), (560, 400, 700, 500), (640, 0, 700, 90)])
    assert len(load_smears(tmp_path, "train").cells) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", "truncated"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "document type"),
        ("<annotation><object><name>RBC</name></object></annotation>", "object 0 .RBC. must have a bndbox"),
        (
            "<annotation><object><bndbox><xmin>1</xmin><ymin>x</ymin></bndbox></object></annotation>",
            "object 0 .without a name. must have a bndbox",
        ),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path, content, message):
    write(tmp_path, "a")
    (tmp_path / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_smears(tmp_path, "train")
    assert "a.xml" in str(caught.value)


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_smears(tmp_path / "nowhere", "train")
    write(tmp_path, "a")
    with pytest.raises(FileNotFoundError, match=r"val\.txt"):
        load_smears(tmp_path, "val")
    picture = tmp_path / "JPEGImages" / "a.jpg"
    picture.write_bytes(picture.read_bytes()[:5000])
    with pytest.raises(OSError, match=r"a\.jpg"):
        load_smears(tmp_path, "train")
    picture.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jpg"):
        load_smears(tmp_path, "train")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("../../elsewhere/a\n")
    with pytest.raises(ValueError, match="leads out of"):
        load_smears(tmp_path, "train")


def test_the_real_set(real_data):
    smears = load_smears(real_data("bccd"), "test")
    assert len(smears.stains) == 69  # 3 of the 72 have no box of a red cell
    assert len(smears.cells) == 31
    assert all(96 + 2 * MARGIN <= side <= FIELD for cell in smears.cells for side in cell.shape[:2])
    assert len(smears.fields) >= 60
    assert max(purple(field).sum() for field in smears.fields) <= 700
    middle = [purple(cell[MARGIN:-MARGIN, MARGIN:-MARGIN]).mean() for cell in smears.cells]
    assert np.median(middle) > 0.25  # nuclei

"""Needles in slides: crops show as much of a lesion as they should, and the splits share no slide."""

import pickle

import numpy as np
import pytest
import torch

from zoomkern.data.camelyon import Camelyon16
from zoomkern.data.needle_camelyon import NeedleCamelyon

Image = pytest.importorskip("PIL.Image")

SPLITS = ("train", "validation", "test")
SIDE, SIZE, RATIO = 64, 400, (0.01, 0.1)
WHITE, TISSUE, LESION, HOLE = (255, 255, 255), (220, 120, 160), (90, 30, 140), (221, 121, 161)


def lesions(number):
    """A large lesion with a hole, and in every other slide a small one, as boxes x0, y0, x1, y1."""
    large = [("_0", (110, 130, 250, 270)), ("_2", (150, 170, 210, 230))]
    return [*large, ("Tumor", (310, 90, 324, 104))] if number % 2 else large


def xml(boxes):
    text = ""
    for group, (x0, y0, x1, y1) in boxes:
        points = enumerate([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in points)
        text += f'<Annotation Name="a" PartOfGroup="{group}"><Coordinates>{corners}</Coordinates></Annotation>'
    return f"<ASAP_Annotations><Annotations>{text}</Annotations></ASAP_Annotations>"


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    root = tmp_path_factory.mktemp("camelyon")
    (root / "annotations").mkdir()
    for kind in ("normal", "tumor"):
        folder = root / "training" / kind
        folder.mkdir(parents=True)
        for number in range(5):
            pixels = np.full((SIZE, SIZE, 3), WHITE, np.uint8)
            pixels[:, 60:] = TISSUE
            if kind == "tumor":
                for group, (x0, y0, x1, y1) in lesions(number):
                    pixels[y0:y1, x0:x1] = HOLE if group == "_2" else LESION
                (root / f"annotations/tumor_{number}.xml").write_text(xml(lesions(number)))
            Image.fromarray(pixels).save(folder / f"{kind}_{number}.png")
    return Camelyon16(root)


def make(slides, split="train", **options):
    return NeedleCamelyon(slides, split, **{"length": 24, "size": SIDE, "ratio": RATIO, **options})


def test_every_other_crop_shows_a_lesion_within_the_ratio_and_the_others_none(slides):
    shares = []
    crops = make(slides, length=60)
    for example in map(crops.__getitem__, range(60)):
        assert example.image.shape == (3, SIDE, SIDE)
        assert example.image.dtype == torch.uint8
        is_lesion = (example.image == torch.tensor(LESION)[:, None, None]).all(0)
        if example.label:
            assert RATIO[0] <= is_lesion.float().mean() <= RATIO[1]
            shares.append(float(is_lesion.float().mean()))
        else:
            assert not is_lesion.any()
        assert (len(example.objects) > 0) == bool(example.label)
    assert crops.labels == [1, 0] * 30
    assert max(shares) > 2.5 * min(shares)


def test_areas_cover_the_lesions_and_not_their_holes(slides):
    crops = make(slides, size=200, ratio=(0.2, 0.5))
    with_holes = 0
    for index in range(0, 24, 2):
        lesion, hole = ((crops.image(index) == torch.tensor(c)[:, None, None]).all(0).sum() for c in (LESION, HOLE))
        areas = crops.areas(index)
        covered = float((areas[:, 2:] - areas[:, :2]).prod(1).sum())
        assert covered == pytest.approx(float(lesion), rel=0.02)  # strips of two rows
        with_holes += int(hole > 0.05 * lesion)
    assert with_holes > 3


def test_objects_are_where_the_lesion_is(slides):
    crops = make(slides)
    for index in range(0, 24, 2):
        example = crops[index]
        is_lesion = (example.image == torch.tensor(LESION)[:, None, None]).all(0)
        rows, columns = is_lesion.any(1).nonzero(), is_lesion.any(0).nonzero()
        x0, y0 = example.objects[:, :2].amin(0).tolist()
        x1, y1 = example.objects[:, 2:].amax(0).tolist()
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [x0, y0, x1, y1]


def test_crops_show_tissue(slides):
    for image in (example.image for example in make(slides, min_tissue=0.6)):
        assert (image != 255).any(0).float().mean() >= 0.5  # an eighth of each side is looked at


def test_crops_are_a_function_of_seed_split_and_index(slides):
    crops, again, longer = make(slides), make(slides), make(slides, length=30)
    assert [crops.window(i) for i in range(24)] == [again.window(i) for i in reversed(range(24))][::-1]
    assert torch.equal(crops[5].image, longer[5].image)
    assert crops.groups == longer.groups[:24]
    other = make(slides, seed=1)
    assert [crops.window(i) for i in range(24)] != [other.window(i) for i in range(24)]
    assert crops.window(-1) == crops.window(23)


def test_another_process_makes_the_same_crops_without_the_slide_being_sent(slides):
    crops = make(slides)
    image = crops[3].image
    sent = pickle.dumps(crops)
    assert len(sent) < SIZE * SIZE
    assert torch.equal(pickle.loads(sent)[3].image, image)


def test_splits_share_no_slide_whatever_the_seed(slides):
    seen = [set(make(slides, split, length=200, seed=seed).groups) for seed in (0, 1) for split in SPLITS]
    for split in range(3):
        assert seen[split] == seen[split + 3]
    assert [len(part) for part in seen[:3]] == [6, 2, 2]
    assert not seen[0] & seen[1]
    assert not seen[2] & (seen[0] | seen[1])


def test_lengths_are_the_papers(slides):
    assert [len(make(slides, split, length=None)) for split in SPLITS] == [6000, 2000, 2000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "split must be one of"),
        ({"length": 0}, "length must be between 1"),
        ({"ratio": (0.1, 0.01)}, "ratio must be two shares that rise"),
        ({"ratio": (0.0, 0.01)}, r"ratio\[0\] must be positive"),
        ({"ratio": (0.9, 1.0), "size": 300}, r"ratio\[0\] must be reached by a lesion of a train slide"),
        ({"min_tissue": 1.0}, "min_tissue must be a share"),
        ({"size": 401}, r"size must fit in every slide; normal_\d is \(400, 400\)"),
        ({"seed": -1}, "seed must be between 0"),
    ],
)
def test_bad_arguments_are_named(slides, options, message):
    with pytest.raises(ValueError, match=message):
        make(slides, **options)


def test_a_crop_that_cannot_be_is_an_error_that_says_what_to_change(slides):
    with pytest.raises(
        ValueError, match=r"no crop of the slide tumor_\d was found .* Widen ratio, or lower min_tissue"
    ):
        make(slides, ratio=(0.01, 0.0100001)).image(0)


def test_slides_need_annotations_and_enough_of_them(tmp_path, slides, save_picture):
    for number in range(2):
        save_picture(tmp_path / f"training/normal/n{number}.png", (SIZE, SIZE))
        save_picture(tmp_path / f"training/tumor/t{number}.png", (SIZE, SIZE))
    with pytest.raises(ValueError, match="slides must have annotations"):
        make(Camelyon16(tmp_path))
    (tmp_path / "annotations").mkdir()
    with pytest.raises(ValueError, match="slides must have three of each class at least, to be divided; got 2"):
        make(Camelyon16(tmp_path))

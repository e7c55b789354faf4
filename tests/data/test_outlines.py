"""Outlines: read from annotations, cut to windows, measured."""

import math

import pytest
import torch

from zoomkern.data.outlines import Outline, area_boxes, bounding_boxes, clip_to_window, read_outlines, total_area
from zoomkern.training.annotations import cell_shares

SQUARE = torch.tensor([[10.0, 20], [30, 20], [30, 60], [10, 60]], dtype=torch.float64)
#: A U whose legs a window can show without what joins them.
U = torch.tensor([[0.0, 0], [10, 0], [10, 30], [20, 30], [20, 0], [30, 0], [30, 40], [0, 40]], dtype=torch.float64)


def annotation(points, group="_0", kind="Polygon"):
    corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in points)
    return f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}"><Coordinates>{corners}</Coordinates></Annotation>'


@pytest.fixture
def asap(tmp_path):
    def write(*annotations):
        text = f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(annotations)}</Annotations>'
        (tmp_path / "a.xml").write_text(f"{text}<AnnotationGroups/></ASAP_Annotations>")
        return tmp_path / "a.xml"

    return write


def test_outlines_are_read_in_their_order_and_dots_left_out(asap):
    points = list(enumerate(SQUARE.tolist()))
    outlines = read_outlines(
        asap(annotation(points[::-1]), annotation(points, "_2"), annotation(points[:1], "_0", "Dot"))
    )

    assert [outline.is_hole for outline in outlines] == [False, True]
    assert all(torch.equal(outline.points, SQUARE) for outline in outlines)


@pytest.mark.parametrize(("group", "is_hole"), [("_1", False), ("Tumor", False), ("Exclusion", True)])
def test_groups_say_what_is_a_hole(asap, group, is_hole):
    assert read_outlines(asap(annotation(enumerate(SQUARE.tolist()), group)))[0].is_hole == is_hole


@pytest.mark.parametrize("corner", ['Order="0" X="1"', 'Order="0" X="1" Y="?"', 'Order="0" X="nan" Y="1"'])
def test_a_broken_corner_is_named(asap, corner):
    path = asap(f'<Annotation Name="z"><Coordinates><Coordinate {corner}/></Coordinates></Annotation>')
    with pytest.raises(ValueError, match=r"a.xml' must have Order, X and Y .* annotation 'z'"):
        read_outlines(path)


def test_other_xml_is_named(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(ValueError, match=r"must be ASAP_Annotations in XML; got <annotation>"):
        read_outlines(tmp_path / "a.xml")


def test_a_square_is_cut_at_the_edges_of_a_window():
    (cut,) = clip_to_window([Outline(SQUARE)], (20, 0, 120, 50))
    assert total_area([cut]) == 10 * 30
    assert bounding_boxes([cut]).tolist() == [[0, 20, 10, 50]]
    assert clip_to_window([Outline(SQUARE)], (30, 0, 130, 50)) == []
    assert bounding_boxes([]).shape == (0, 4)


def test_a_window_inside_is_full():
    assert total_area(clip_to_window([Outline(SQUARE)], (12, 22, 22, 32))) == 100


def test_pieces_of_a_concave_outline_have_their_joint_area_and_box():
    cut = clip_to_window([Outline(U)], (-5, -5, 45, 20))
    assert total_area(cut) == 2 * 10 * 20
    assert bounding_boxes(cut).tolist() == [[5, 5, 35, 25]]


def test_holes_are_taken_away():
    assert total_area([Outline(SQUARE), Outline(SQUARE / 2, is_hole=True)]) == 800 - 200


def test_the_area_is_exact_far_from_the_origin():
    turn = torch.arange(360, dtype=torch.float64) * math.pi / 180
    circle = torch.stack([turn.cos(), turn.sin()], 1) * 3
    expected = 360 / 2 * 9 * math.sin(math.pi / 180)
    # 2^18 costs 18 of 53 bits of each coordinate: 3e-11 of a pixel in 360 corners
    assert total_area([Outline(circle + 2**18)]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_of_a_star_has_the_area_that_its_pixels_count(seed):
    numpy = pytest.importorskip("numpy")
    draw = pytest.importorskip("PIL.ImageDraw")
    image = pytest.importorskip("PIL.Image")
    rng = numpy.random.default_rng(seed)
    turn = numpy.arange(40) * 2 * numpy.pi / 40
    star = 500 + rng.uniform(100, 400, (40, 1)) * numpy.stack([numpy.cos(turn), numpy.sin(turn)], 1)
    x, y = rng.integers(0, 500, 2).tolist()
    picture = image.new("1", (1000, 1000))
    draw.Draw(picture).polygon([tuple(point) for point in star.tolist()], fill=1)
    counted = numpy.asarray(picture)[y : y + 400, x : x + 400].sum()

    area = total_area(clip_to_window([Outline(torch.from_numpy(star))], (x, y, x + 400, y + 400)))

    # a drawn edge may take or leave a pixel for each that it passes: at most two per pixel of length
    length = numpy.hypot(*(numpy.roll(star, -1, 0) - star).T).sum()
    assert abs(area - counted) <= 2 * length
    assert area > 0


def painted(boxes, side=40):
    """Share of each pixel that boxes cover."""
    return cell_shares(boxes, (side, side), (side, side))


def test_boxes_of_an_area_cover_the_polygon_and_not_its_holes():
    hole = Outline(torch.tensor([[12.0, 32], [18, 32], [18, 38], [12, 38]], dtype=torch.float64), is_hole=True)
    covered = painted(area_boxes([Outline(U), hole], strips=40))
    expected = torch.zeros(40, 40, dtype=torch.float64)
    expected[:40, :30] = 1
    expected[:30, 10:20] = 0
    expected[32:38, 12:18] = 0
    assert torch.allclose(covered, expected, atol=1e-12)
    assert painted(area_boxes([hole])).sum() == 0


def test_a_thin_diagonal_lesion_leaves_the_cells_beside_it_free():
    lesion = Outline(torch.tensor([[0.0, 0], [2, 0], [40, 38], [40, 40], [38, 40], [0, 2]], dtype=torch.float64))
    covered = painted(area_boxes([lesion], strips=320))
    y, x = torch.meshgrid(*2 * [torch.arange(40.0)], indexing="ij")
    assert covered[(x - y).abs() > 3].sum() == 0
    assert float(covered.sum()) == pytest.approx(total_area([lesion]), rel=1e-3)

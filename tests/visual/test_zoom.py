"""The picture of two stages."""

import numpy as np
import pytest
import torch

from zoomkern.visual import Tiles, panels, save_zoom, zoom
from zoomkern.visual import tiles as rows_of_tiles

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def arguments(tiles=3, number=5, channels=3, size=(300, 400)):
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    tile_offsets = (rand(tiles, 2) * 200).long()
    parents = torch.arange(number) % tiles if tiles else torch.zeros(0, dtype=torch.int64)
    drawn = Tiles(
        offsets=tile_offsets,
        size=(100, 80),
        views=rand(tiles, channels, 20, 16),
        attention=rand(tiles, 20).softmax(1).view(tiles, 5, 4),
        probabilities=torch.full((tiles,), 0.125),
        parents=parents,
    )
    return {
        "overview": rand(channels, size[0] // 2, size[1] // 2),
        "attention": rand(48).softmax(0).view(6, 8),
        "tiles": drawn,
        "patches": rand(number, channels, 30, 24),
        "offsets": tile_offsets[parents] + 20,
        "probabilities": torch.full((number,), 0.0025),
        "image_size": size,
        "title": "a title",
    }


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("L")).astype(int)


@pytest.mark.parametrize(("tiles", "number", "channels"), [(1, 1, 1), (12, 23, 3)])
def test_a_png_is_written_for_any_number_of_tiles(tmp_path, tiles, number, channels):
    objects = torch.tensor([[10, 20, 40, 50], [60, 60, 60, 60]])
    save_zoom(tmp_path / "picture.png", **arguments(tiles, number, channels), objects=objects)
    assert pixels(tmp_path / "picture.png").shape[1] == 1540
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_each_tile_shows_the_sub_tiles_drawn_in_it_and_the_shares_of_both_stages(tmp_path, monkeypatch):
    figures, drawn = [], []
    monkeypatch.setattr(zoom, "write_figure", lambda figure, path, dpi: figures.append(figure))
    for module in (panels, rows_of_tiles):
        monkeypatch.setattr(module, "draw_boxes", lambda axes, *groups, **_: drawn.append((axes, groups)))
    given = arguments(tiles=2, number=3)
    given["patches"][:] = 0
    save_zoom(tmp_path / "picture.png", **given, step=2)

    (_, (outer, read)), (_, (first,)), (_, (second,)) = drawn
    assert (outer.labels, read.labels, first.labels, second.labels) == (["A", "B"], ["1", "2", "3"], ["1", "3"], ["2"])
    assert (outer.size, read.size, first.size) == ((100, 80), (60, 48), (60, 48))
    assert first.offsets.tolist() == [[20, 20], [20, 20]]
    titles = [axes.get_title() for axes in figures[0].axes]
    assert [title for title in titles if title.startswith(("A", "B", "1", "2", "3"))] == [
        "A    12 %",
        "B    12 %",
        "1    0.25 %",
        "2    0.25 %",
        "3    0.25 %",
    ]
    below = [axes.get_xlabel() for axes in figures[0].axes if "×" in axes.get_xlabel()]
    assert below == ["A  12 % × 2.0 %", "B  12 % × 2.0 %", "A  12 % × 2.0 %"]


def test_both_attentions_show_where_they_are(tmp_path):
    """Moving either attention to another cell changes its own panel and no other."""
    given = arguments(tiles=1, number=1)
    given["overview"] = torch.zeros(1, 150, 200)
    given["tiles"] = given["tiles"]._replace(views=torch.zeros(1, 1, 20, 16))
    pictures = {}
    for name, cells in (("attention", [(0, 0), (5, 7)]), ("tiles", [(0, 0, 0), (0, 4, 3)])):
        for cell in cells:
            heat = torch.zeros_like(given["attention"] if name == "attention" else given["tiles"].attention)
            heat[cell] = 1
            changed = heat if name == "attention" else given["tiles"]._replace(attention=heat)
            save_zoom(tmp_path / "p.png", **{**given, name: changed})
            pictures[name, cell] = pixels(tmp_path / "p.png")
        before, after = (pictures[name, cell] for cell in cells)
        rows, columns = np.nonzero(np.abs(before - after) > 60)
        assert len(rows) > 300
        bottom = (panels.HEAD + panels.panel_height((300, 400))) * panels.DPI
        if name == "attention":
            assert (columns > 770).all()
            assert (rows < bottom).all()
        else:
            assert (rows > bottom).all()


def test_an_object_without_area_is_a_dot(tmp_path):
    given = arguments(tiles=1, number=1)
    given["overview"], given["attention"] = torch.zeros(1, 150, 200), torch.full((6, 8), 1 / 48)
    light = {}
    for name, box in (("none", []), ("dot", [[200, 150, 200, 150]]), ("circle", [[180, 130, 220, 170]])):
        save_zoom(tmp_path / "p.png", **given, objects=torch.tensor(box).reshape(-1, 4))
        light[name] = pixels(tmp_path / "p.png")
    where = {name: np.argwhere(light[name] != light["none"]) for name in ("dot", "circle")}
    assert np.ptp(where["dot"], 0).max() < 12
    assert np.ptp(where["circle"], 0).min() > 60
    assert np.abs(where["dot"].mean(0) - where["circle"].mean(0)).max() < 3


def test_probabilities_that_a_float_cannot_hold_are_drawn_as_zero(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(zoom, "write_figure", lambda figure, path, dpi: figures.append(figure))
    given = arguments(tiles=1, number=1)
    for part in (given["attention"], given["tiles"].attention, given["tiles"].probabilities, given["probabilities"]):
        part[:] = 0
    save_zoom(tmp_path / "p.png", **given)
    assert [axes.get_xlabel() for axes in figures[0].axes if axes.get_xlabel()] == ["A  0 % × 0 %"]


def test_letters_go_on_after_z():
    names = [rows_of_tiles.letters(i) for i in range(26 * 27 + 1)]
    assert names[:2] + names[24:28] + names[-2:] == ["A", "B", "Y", "Z", "AA", "AB", "ZZ", "AAA"]

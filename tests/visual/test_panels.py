"""Boxes and their numbers."""

import numpy as np
import pytest
import torch

from zoomkern.visual import panels

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("image_size", [(2048, 2048), (300, 1200)])
def test_numbers_of_close_boxes_do_not_overlap_in_the_drawn_picture(image_size):
    figure = panels.frame("title", "", 10.0)
    axes = panels.panel(figure, (0.25, 1.4, 6.65, panels.panel_height(image_size)), "")
    panels.show(axes, torch.zeros(1, 20, 20), image_size)
    places = [(140, 130), (140, 165), (145, 180), (140, 130), (0, 0), (280, 1190)]
    panels.draw_boxes(axes, panels.Boxes(torch.tensor(places), (72, 72), [str(i + 8) for i in range(6)]))
    figure.canvas.draw()

    drawn = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert sorted(text.get_text() for text in axes.texts) == ["10", "11", "12", "13", "8", "9"]
    frame = axes.get_window_extent()
    for i, one in enumerate(drawn):
        assert not any(one.overlaps(other) for other in drawn[:i])
        assert frame.x0 <= one.x0 <= one.x1 <= frame.x1
        assert frame.y0 <= one.y0 <= one.y1 <= frame.y1


def test_a_line_leads_to_a_box_whose_number_is_far():
    figure = panels.frame("title", "", 10.0)
    axes = panels.panel(figure, (0.25, 1.4, 6.5, 6.5), "")
    panels.show(axes, torch.zeros(1, 20, 20), (1000, 1000))
    panels.draw_boxes(axes, panels.Boxes(torch.full((30, 2), 480), (20, 20), [str(i) for i in range(30)]))
    assert 0 < len(axes.lines) < 30
    for line in axes.lines:
        end = np.array(line.get_xydata()[1])
        assert ((end >= 480) & (end <= 500)).all()


@pytest.mark.parametrize("shape", [(4, 4), (40, 60)])
def test_attention_near_the_uniform_one_is_pale(shape):
    """Up to twice the uniform probability; a peak still has the last colour and most of the opacity."""
    cells = shape[0] * shape[1]
    near = torch.linspace(0.1, 2, cells).view(shape) / cells
    peaked = torch.zeros(shape)
    peaked[0, 0] = 1
    shown = []
    for attention in (near, peaked):
        axes = panels.panel(panels.frame("", "", 10.0), (0.25, 1.4, 6.65, 5.0), "")
        colours = panels.draw_heat(axes, attention, (300, 400), float(attention.max()))
        shown.append((colours.norm(float(attention.max())), axes.images[-1].get_alpha().max()))
    assert shown[0][0] < 0.36
    assert shown[0][1] < 0.5
    assert shown[1] == pytest.approx((1, 0.85))


def test_the_bar_says_its_values_and_how_it_is_scaled():
    figure = panels.frame("", "", 10.0)
    title = panels.panel(figure, (7.1, 1.42, 6.65, 6.65), "first attention, probability of a cell")
    attention = torch.full((100, 100), 1e-4)
    attention[0, 0] = 0.5
    colours = panels.draw_heat(title, attention, (300, 400), 0.5)
    panels.draw_scale(figure, (11.5, 1.23, 2.03, 0.09), colours, 10_000)
    figure.canvas.draw()
    bar = figure.axes[-1]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0 %", "12 %", "50 %"]
    assert np.allclose(colours.norm([0, 0.125, 0.5]), [0, 0.5, 1])
    (said,) = bar.texts
    assert said.get_text() == "square-root scale\nuniform: 0.010 %"
    others = [title.title, title._left_title, *bar.get_xticklabels()]
    assert not any(said.get_window_extent().overlaps(other.get_window_extent()) for other in others if other.get_text())


@pytest.mark.parametrize(("number", "rows", "columns"), [(0, 0, 1), (1, 1, 1), (10, 1, 10), (11, 2, 6), (31, 4, 8)])
def test_rows_of_a_strip_are_equally_long_and_centred(number, rows, columns):
    strip = panels.Strip(number, (10, 10), below=0.3)
    assert (strip.rows, strip.columns) == (rows, columns)
    places = [strip.place(i, 2.0) for i in range(number)]
    for row in range(rows):
        first, *_, last = places[row * columns : (row + 1) * columns] * 2
        assert first[0] == pytest.approx(panels.WIDTH - last[0] - last[2])  # as far from the left as from the right
        assert first[3] == pytest.approx(first[2] + 0.084)  # square, with room between neighbours
        assert last[1] + last[3] + 0.3 == pytest.approx(2.0 + (row + 1) * strip.height / rows)

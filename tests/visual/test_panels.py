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

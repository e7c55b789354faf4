"""Statistics of image sets."""

import pytest
import torch

from zoomkern.data.colon import ColonCancer
from zoomkern.data.dataset import ImageSet
from zoomkern.data.stats import set_statistics

BOXES = [[[0, 0, 10, 10], [5, 5, 15, 15]], [[3, 3, 3, 3]], []]


class Boxed(ImageSet):
    """Three images that must not be decoded."""

    def __init__(self, number=3):
        super().__init__(["no", "yes", "never"], list("abc")[:number], [1, 1, 0][:number], ["g", "g", "h"][:number])

    def image(self, index):
        raise AssertionError("decoded")

    def size(self, index):
        return [(100, 40), (200, 2000), (300, 40)][index]

    def objects(self, index):
        return torch.tensor(BOXES[index], dtype=torch.float64).reshape(-1, 4)


def test_images_sizes_and_objects_are_counted():
    statistics = set_statistics(Boxed())

    assert (statistics.num_images, statistics.num_groups, statistics.num_objects) == (3, 2, 3)
    assert statistics.class_counts == {"no": 1, "yes": 2, "never": 0}
    assert statistics.heights == (100, 200, 300)
    assert statistics.widths == (40, 40, 2000)
    assert statistics.objects_per_image == (0, 1, 2)
    assert statistics.ratios == [200 / 4000]


def test_the_table_says_the_same():
    assert set_statistics(Boxed()).table().splitlines() == [
        "images            3",
        "groups            2",
        "  no              1",
        "  yes             2",
        "  never           0",
        "height            100 to 300, median 200",
        "width             40 to 2,000, median 40",
        "objects           3",
        "  per image       0 to 2, median 1",
        "  % of the image  5  (of 1 images)",
    ]


def test_groups_of_single_images_are_no_news(monkeypatch):
    monkeypatch.setattr(Boxed, "groups", property(lambda self: self.names, lambda self, value: None), raising=False)
    assert "groups" not in set_statistics(Boxed()).table()


def test_a_set_without_objects_does_not_count_them(monkeypatch):
    monkeypatch.setattr(Boxed, "objects", ImageSet.objects)
    assert "objects" not in set_statistics(Boxed()).table()


def test_an_empty_set_is_an_error():
    with pytest.raises(ValueError, match="image_set must have an image"):
        set_statistics(Boxed(0))


def test_the_example_of_the_colon_set_is_true(real_data):
    pytest.importorskip("scipy")
    table = set_statistics(ColonCancer(real_data("colon"))).table()
    shown = set_statistics.__doc__.split(".table())\n")[1].rstrip().splitlines()
    assert [line.strip() for line in shown] == [line.strip() for line in table.splitlines()]

"""Large images made small."""

import pytest
import torch
from torch.nn import functional as F

from zoomkern.visual import area_mean, overview_size


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (12, 20), (37, 53)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_every_pixel_is_the_mean_of_the_area_it_covers(size, dtype):
    image = torch.randint(256, (3, 37, 53)).to(dtype)
    torch.testing.assert_close(area_mean(image, size), F.adaptive_avg_pool2d(image.float(), size))


def test_strided_images_are_taken():
    image = torch.randint(256, (40, 30, 3), dtype=torch.uint8).permute(2, 0, 1)[:, 1::2, ::3]
    torch.testing.assert_close(area_mean(image, (5, 5)), F.adaptive_avg_pool2d(image.float(), (5, 5)))


@pytest.mark.parametrize("size", [(0, 4), (4, 31), (41, 4)])
def test_it_makes_nothing_larger(size):
    with pytest.raises(ValueError, match="size"):
        area_mean(torch.zeros(1, 40, 30), size)


@pytest.mark.parametrize(
    ("size", "wanted"), [((2048, 2048), (1200, 1200)), ((500, 300), (500, 300)), ((1, 10**6), (1, 1200))]
)
def test_the_longer_side_is_bounded(size, wanted):
    assert overview_size(size) == wanted

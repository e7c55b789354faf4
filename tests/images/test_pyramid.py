"""Pyramid: exact means, bounded memory, and levels found by any of their names."""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from zoomkern.images import PinnedImage, Pyramid


def exact_halves(image):
    """The means of the two by two pixels as fractions, from the definition."""
    channels, height, width = image.shape
    means = np.empty((channels, -(-height // 2), -(-width // 2)), dtype=object)
    for c, y, x in np.ndindex(means.shape):
        block = image[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1).tolist()
        means[c, y, x] = sum(map(Fraction, block)) / len(block)
    return means


def random_image(shape, dtype=torch.uint8, high=256, interleaved=False):
    generator = torch.Generator().manual_seed(5)
    channels, height, width = shape
    stored = (height, width, channels) if interleaved else shape
    image = torch.randint(0, high, stored, generator=generator).to(dtype)
    return image.permute(2, 0, 1) if interleaved else image


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dtype", "high"), [(torch.uint8, 256), (torch.uint8, 3), (torch.uint16, 65536)])
@pytest.mark.parametrize("size", [(2, 2), (1, 2), (7, 1), (8, 9), (13, 6), (31, 37)])
def test_integer_levels_are_the_means_rounded_half_to_even(size, dtype, high, interleaved):
    image = random_image((3, *size), dtype, high, interleaved)

    level = Pyramid.build(image, levels=2)[1]

    assert level.dtype == dtype
    assert level.tolist() == [[[round(mean) for mean in row] for row in plane] for plane in exact_halves(image)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_levels_are_the_means_to_the_last_place_of_their_type(dtype):
    image = torch.randn(2, 11, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)

    level = Pyramid.build(image, levels=2)[1]

    exact = torch.tensor(exact_halves(image).astype(np.float64))
    torch.testing.assert_close(level.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_largest_numbers_do_not_overflow(dtype):
    largest = torch.finfo(dtype).max

    assert (Pyramid.build(torch.full((1, 5, 5), largest, dtype=dtype), levels=3)[2] == largest).all()


def test_rounding_does_not_drift_over_levels():
    image = random_image((1, 512, 512))

    coarsest = Pyramid.build(image, levels=9)[8]

    assert abs(coarsest.double().mean() - image.double().mean()) < 0.5


def test_a_photograph_halves_as_torch_averages_it():
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    image = torch.from_numpy(datasets.load_sample_image("china.jpg").copy()).permute(2, 0, 1)

    pyramid = Pyramid.build(image, min_size=50)

    assert pyramid.level_dimensions == ((640, 427), (320, 214), (160, 107), (80, 54))
    for finer, level in zip(pyramid, list(pyramid)[1:], strict=False):
        means = torch.nn.functional.avg_pool2d(finer[None].double(), 2, ceil_mode=True, count_include_pad=False)
        assert torch.equal(level, means[0].round().to(torch.uint8))
        assert level.stride(0) == 1
        assert level.stride(1) % 128 == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bands_and_threads_do_not_change_a_level(threads, monkeypatch):
    image = random_image((3, 203, 157))
    whole = Pyramid.build(image, levels=4, threads=1)
    monkeypatch.setattr("zoomkern.images.halving._BAND_PIXELS", 300)

    banded = Pyramid.build(image, levels=4, threads=threads)

    assert all(torch.equal(a, b) for a, b in zip(whole, banded, strict=True))


def test_a_pyramid_is_built_in_inference_mode():
    """Where a data set makes its pyramids while a network predicts."""
    image = random_image((3, 40, 60))
    with torch.inference_mode():
        built = Pyramid.build(image.clone(), threads=2, min_size=8)
    assert all(torch.equal(a, b) for a, b in zip(built, Pyramid.build(image, min_size=8), strict=True))


def test_a_strided_image_is_read_where_it_is():
    base = random_image((3, 40, 60))
    cut = base[:, 3:36:2, 5:50:3]

    pyramid = Pyramid.build(cut, levels=2)

    assert pyramid[0].data_ptr() == cut.data_ptr()
    assert torch.equal(pyramid[1], Pyramid.build(cut.clone(), levels=2)[1])


@pytest.mark.parametrize(
    ("size", "arguments", "expected"),
    [
        ((100, 80), {"min_size": 20}, [(80, 100), (40, 50), (20, 25)]),
        ((100, 80), {"min_size": 21}, [(80, 100), (40, 50)]),
        ((100, 80), {}, [(80, 100)]),
        ((5, 3), {"levels": 4}, [(3, 5), (2, 3), (1, 2), (1, 1)]),
        ((5, 3), {"levels": 1}, [(3, 5)]),
        ((1, 4), {"min_size": 1}, [(4, 1), (2, 1), (1, 1)]),
    ],
)
def test_levels_end_where_they_are_told(size, arguments, expected):
    assert list(Pyramid.build(torch.zeros(1, *size), **arguments).level_dimensions) == expected


def test_a_function_hears_of_every_row():
    heard = []

    Pyramid.build(torch.zeros(1, 64, 64), levels=4, progress=lambda done, total: heard.append((done, total)))

    assert heard[-1] == (32 + 16 + 8, 56)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})


def test_the_bar_reaches_its_end(capsys):
    pytest.importorskip("tqdm")

    Pyramid.build(torch.zeros(1, 64, 64), levels=3, progress=True)

    assert "48.0/48.0" in capsys.readouterr().err


def test_without_tqdm_the_work_is_done_and_a_warning_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    with pytest.warns(UserWarning, match=r"needs tqdm .* pip install 'zoomkern\[demo\]'"):
        assert len(Pyramid.build(torch.zeros(1, 64, 64), levels=3, progress=True)) == 3


def test_an_error_in_the_callers_function_stops_the_build():
    def refuse(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        Pyramid.build(torch.zeros(1, 64, 64), levels=3, progress=refuse)


@pytest.fixture
def slide():
    return Pyramid(
        [torch.zeros(3, 1000, 2000), PinnedImage(torch.zeros(3, 250, 500)), torch.zeros(3, 62, 125)], mpp=0.25
    )


def test_a_pyramid_describes_itself_as_openslide_does(slide):
    assert (slide.level_count, len(slide)) == (3, 3)
    assert slide.level_dimensions == ((2000, 1000), (500, 250), (125, 62))
    assert slide.level_downsamples == (1.0, 4.0, (2000 / 125 + 1000 / 62) / 2)
    assert [slide.get_best_level_for_downsample(d) for d in (0.5, 1, 3.9, 4, 16, 17, 1e9)] == [0, 0, 0, 1, 1, 2, 2]
    assert slide[1].shape == (3, 250, 500)
    assert repr(slide) == "Pyramid(levels=[2000x1000, 500x250, 125x62], channels=3, dtype=float32, mpp=0.25)"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ({}, 0),
        ({"level": 2}, 2),
        ({"downsample": 4}, 1),
        ({"downsample": 4.19}, 1),
        ({"downsample": 16}, 2),
        ({"mpp": 0.25}, 0),
        ({"mpp": 1.0}, 1),
        ({"mpp": 1.3, "tolerance": 0.5}, 1),
    ],
)
def test_a_level_has_three_names(slide, name, level):
    assert slide.level_for(**name) == level


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ({"level": 3}, IndexError, "level must be from 0 to 2; got 3. There are 0: 2000 x 1000, 1: 500 x 250"),
        ({"level": -1}, IndexError, "level must be from 0 to 2; got -1"),
        ({"level": 1.0}, TypeError, "level must be an int; got float"),
        ({"level": True}, TypeError, "level must be an int; got bool"),
        ({"downsample": 5}, ValueError, "downsample must be within 5% of a level's; got 5. There are 1, 4, 16.06"),
        ({"downsample": float("nan")}, ValueError, "downsample must be within"),
        ({"mpp": 0.5}, ValueError, "mpp must be within 5% of a level's; got 0.5. There are 0.25, 1, 4.016"),
        ({"level": 1, "mpp": 0.5}, ValueError, "got level and mpp. Keep one"),
    ],
)
def test_a_level_that_is_not_there_is_refused_with_those_that_are(slide, name, error, message):
    with pytest.raises(error, match=message):
        slide.level_for(**name)


def test_microns_need_a_scale():
    with pytest.raises(ValueError, match="mpp=0.5 needs the mpp of the pyramid"):
        Pyramid([torch.zeros(1, 4, 4)]).level_for(mpp=0.5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Pyramid(torch.zeros(3, 4, 4)),
            TypeError,
            "levels must be a list of images; got Tensor. Use Pyramid.build",
        ),
        (lambda: Pyramid([]), ValueError, "levels must hold at least one image"),
        (lambda: Pyramid([np.zeros((3, 4, 4))]), TypeError, r"levels\[0\] must be a \[C, H, W\] tensor .* got ndarray"),
        (lambda: Pyramid([torch.zeros(4, 4)]), ValueError, r"levels\[0\] must be \[C, H, W\]"),
        (
            lambda: Pyramid([torch.zeros(3, 4, 4), torch.zeros(1, 2, 2)]),
            ValueError,
            r"levels\[1\] must have the 3 channels",
        ),
        (
            lambda: Pyramid([torch.zeros(3, 4, 4), torch.zeros(3, 2, 2).half()]),
            TypeError,
            r"levels\[1\] must be torch.float32",
        ),
        (
            lambda: Pyramid([torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)]),
            ValueError,
            r"levels\[1\] must be smaller .* 4 x 4",
        ),
        (
            lambda: Pyramid([torch.zeros(3, 4, 4), torch.zeros(3, 2, 5)]),
            ValueError,
            r"levels\[1\] must be smaller .* 5 x 2",
        ),
        (lambda: Pyramid([torch.zeros(3, 4, 4)], mpp=0), ValueError, "mpp must be positive"),
        (lambda: Pyramid.build(torch.zeros(3, 4, 4, dtype=torch.int32)), TypeError, "image must be one of"),
        (
            lambda: Pyramid.build(torch.zeros(3, 4, 4, device="meta")),
            ValueError,
            "image must be in CPU memory; got meta",
        ),
        (lambda: Pyramid.build(torch.zeros(3, 4, 4), levels=0), ValueError, "levels must be between 1"),
        (lambda: Pyramid.build(torch.zeros(3, 4, 4), levels=4), ValueError, "levels must be at most 3; got 4"),
        (lambda: Pyramid.build(torch.zeros(3, 4, 4), min_size=0), ValueError, "min_size must be between 1"),
        (lambda: Pyramid.build(torch.zeros(3, 4, 4), threads=0), ValueError, "threads must be between 1"),
    ],
)
def test_what_is_no_pyramid_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()

"""tissue_mask: Otsu's threshold as scikit-image has it, and what makes Otsu fail on slides."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoomkern
from zoomkern.images.places.tissue import otsu

GLASS, EOSIN, PALE, BLOOD = (243, 242, 244), (214, 120, 178), (232, 196, 218), (196, 20, 40)
BLACK, GREEN_INK, BLUE_INK = (4, 6, 5), (30, 160, 60), (25, 60, 190)


def picture(height, width, colour, noise=2, seed=0):
    levels = np.random.default_rng(seed).integers(-noise, noise + 1, (3, height, width))
    return torch.from_numpy((np.array(colour)[:, None, None] + levels).clip(0, 255).astype(np.uint8))


def painted(base, where, colour):
    for channel, value in enumerate(colour):
        base[channel][where] = value
    return base


def disc(height, width, radius):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (y - height // 2) ** 2 + (x - width // 2) ** 2 <= radius**2


@pytest.mark.parametrize("name", ["immunohistochemistry", "astronaut", "coffee", "chelsea"])
def test_the_threshold_is_scikit_images(name):
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    from skimage.filters import threshold_otsu

    image = getattr(data, name)()
    for levels in (image.max(-1) - image.min(-1), image[..., 0], image[..., 1]):
        assert otsu(np.bincount(levels.ravel(), minlength=256).tolist())[0] == threshold_otsu(levels)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_the_threshold_is_the_best_of_all(counts):
    def between(level):
        below = [i for i, count in enumerate(counts) for _ in range(count) if i <= level]
        above = [i for i, count in enumerate(counts) for _ in range(count) if i > level]
        if not below or not above:
            return Fraction(0)
        apart = Fraction(sum(above), len(above)) - Fraction(sum(below), len(below))
        return len(below) * len(above) * apart**2

    best = [between(level) for level in range(len(counts))]

    level, contrast = otsu(counts)

    if max(best) == 0:
        assert (level, contrast) == (len(counts) - 1, 0)
    else:
        assert level == best.index(max(best))
        assert contrast > 0


def test_tissue_on_glass_is_found_to_the_pixel():
    tissue = disc(120, 160, 40)

    mask = zoomkern.tissue_mask(painted(picture(120, 160, GLASS), tissue, EOSIN))

    assert mask.dtype == torch.bool
    assert torch.equal(mask, tissue)


@pytest.mark.parametrize("colour", [BLACK, (40, 40, 42), GREEN_INK, BLUE_INK])
def test_borders_shadows_and_ink_are_no_tissue(colour):
    tissue = disc(120, 160, 40)
    slide = painted(picture(120, 160, GLASS), tissue, EOSIN)
    edge = torch.zeros_like(tissue)
    edge[:18], edge[:, :18] = True, True

    assert torch.equal(zoomkern.tissue_mask(painted(slide, edge, colour)), tissue)


def test_a_green_stain_is_kept_when_asked():
    tissue = disc(120, 160, 40)
    slide = painted(picture(120, 160, GLASS), tissue, GREEN_INK)

    with pytest.warns(UserWarning, match="no tissue"):
        assert not zoomkern.tissue_mask(slide).any()
    assert torch.equal(zoomkern.tissue_mask(slide, drop_ink=False), tissue)


@pytest.mark.parametrize("glass", [(255, 255, 255), GLASS, (243, 236, 214), (0, 0, 0)])
@pytest.mark.parametrize("noise", [0, 3])
def test_a_blank_slide_has_no_tissue_and_says_so(glass, noise):
    with pytest.warns(UserWarning, match="overview shows no tissue, so the mask is empty") as told:
        mask = zoomkern.tissue_mask(picture(60, 80, glass, noise))

    assert mask.shape == (60, 80)
    assert not mask.any()
    assert told[0].filename == __file__


def test_a_crop_full_of_tissue_is_all_tissue():
    assert zoomkern.tissue_mask(picture(60, 80, EOSIN, 8)).all()


def test_a_clot_does_not_hide_pale_tissue_and_a_speck_is_found():
    clot, pale = torch.zeros(100, 100, dtype=torch.bool), torch.zeros(100, 100, dtype=torch.bool)
    clot[:40], pale[50:60] = True, True
    slide = painted(painted(picture(100, 100, GLASS), clot, BLOOD), pale, (232, 180, 214))
    assert torch.equal(zoomkern.tissue_mask(slide), clot | pale)

    speck = torch.zeros(400, 400, dtype=torch.bool)
    speck[7:10, 300:303] = True
    assert torch.equal(zoomkern.tissue_mask(painted(picture(400, 400, GLASS, 3), speck, EOSIN)), speck)


def test_tinted_glass_and_pale_stain_are_told_apart():
    tissue = disc(120, 160, 40)

    assert torch.equal(zoomkern.tissue_mask(painted(picture(120, 160, (240, 236, 222)), tissue, PALE)), tissue)


def test_every_pixel_type_gives_the_same_mask():
    slide = painted(picture(120, 160, GLASS, 3), disc(120, 160, 40), PALE)
    mask = zoomkern.tissue_mask(slide)

    assert torch.equal(zoomkern.tissue_mask((slide.int() * 257).to(torch.uint16)), mask)
    for kind in (torch.float32, torch.float64):
        assert torch.equal(zoomkern.tissue_mask(slide.to(kind) / 255), mask)


def test_a_stained_section_shows_both_of_its_stains():
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    image = data.immunohistochemistry()
    overview = torch.from_numpy(image).permute(2, 0, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = zoomkern.tissue_mask(overview).double()

    assert mask[50:200, 100:200].mean() > 0.95  # brown epithelium
    assert mask[300:450, 200:250].mean() > 0.1  # pale blue nuclei between, of which one division finds next to none
    assert mask[384:448, 384:448].mean() < 0.4  # gaps among loose fibres


@pytest.mark.parametrize(
    ("overview", "options", "error", "message"),
    [
        (torch.zeros(1, 4, 4, dtype=torch.uint8), {}, ValueError, r"\[3, h, w\], RGB .* overview\[:3\]"),
        (torch.zeros(4, 4, dtype=torch.uint8), {}, ValueError, "RGB"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), {}, ValueError, "at least one pixel"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), {}, TypeError, "overview must be uint8"),
        (torch.full((3, 4, 4), 200.0), {}, ValueError, r"in \[0, 1\] .* 200"),
        (torch.full((3, 4, 4), torch.nan), {}, ValueError, r"in \[0, 1\] .* nan"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), {"least": 0}, ValueError, "least and most"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), {"most": 2}, ValueError, "least and most"),
        (np.zeros((3, 4, 4), np.uint8), {}, TypeError, "overview must be a tensor"),
    ],
)
def test_bad_overviews_are_answered(overview, options, error, message):
    with pytest.raises(error, match=message):
        zoomkern.tissue_mask(overview, **options)

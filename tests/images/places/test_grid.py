"""grid_places: every pixel where it is asked, whole patches where it is not, and places that gather and sample take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoomkern
from zoomkern.images import share_at


def starts(size, patch, stride, edge):
    last = size - patch
    found = [start for start in range(0, size, stride) if start <= max(last, 0)]
    return sorted({*found, last}) if edge == "cover" and last > 0 else found


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.sampled_from(["inside", "cover"]),
)
def test_places_are_rows_and_columns(size, patch, stride, edge):
    if edge == "inside" and (patch[0] > size[0] or patch[1] > size[1]):
        with pytest.raises(ValueError, match="patch_size must fit"):
            zoomkern.grid_places(size, patch, stride, edge=edge)
        return

    places = zoomkern.grid_places(size, patch, stride, edge=edge)

    rows, columns = (starts(*axis, edge) for axis in zip(size, patch, stride, strict=True))
    assert places.dtype == torch.int64
    assert places.tolist() == [[y, x] for y in rows for x in columns]
    if edge == "cover" and stride[0] <= patch[0] and stride[1] <= patch[1]:
        seen = torch.zeros(size, dtype=torch.bool)
        for y, x in places.tolist():
            seen[y : y + patch[0], x : x + patch[1]] = True
        assert seen.all()


def test_overlap_is_another_word_for_stride():
    by_stride = zoomkern.grid_places((100, 90), (30, 20), (20, 15))

    assert torch.equal(zoomkern.grid_places((100, 90), (30, 20), overlap=(10, 5)), by_stride)
    assert torch.equal(zoomkern.grid_places((100, 90), 30, overlap=0), zoomkern.grid_places((100, 90), 30))


def test_a_mask_keeps_the_places_it_covers_enough():
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:4, :4] = True

    places = zoomkern.grid_places((1000, 1000), 100, 50, mask=mask, minimum=0.5)

    every = zoomkern.grid_places((1000, 1000), 100, 50)
    assert torch.equal(places, every[share_at(mask, every, 100, (1000, 1000)) >= 0.5])
    assert 0 < len(places) < len(every)


def on_disk(pixels, path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    tifffile.imwrite(path, pixels.permute(1, 2, 0).numpy(), tile=(16, 32), photometric="rgb")
    return zoomkern.Pyramid.open(path, where="disk")


KINDS = {
    "tensor": lambda pixels, _: pixels,
    "pyramid": lambda pixels, _: zoomkern.Pyramid.build(pixels, levels=2),
    "disk": on_disk,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_same_places_feed_gather_and_sample(kind, tmp_path):
    pixels = torch.arange(3 * 50 * 70).remainder(251).to(torch.uint8).reshape(3, 50, 70)
    image = KINDS[kind](pixels, tmp_path / "image.tif")
    places = zoomkern.grid_places((50, 70), 16, edge="cover")

    patches = zoomkern.gather_patches([image], places[None], 16)
    drawn = zoomkern.sample_patches([image], torch.zeros(1, len(places)), 4, 16, locations=places, seed=3)

    for (y, x), patch in zip(places.tolist(), patches[0], strict=True):
        assert torch.equal(patch, pixels[:, y : y + 16, x : x + 16].float())
    assert torch.equal(drawn.patches[0], patches[0, drawn.index[0]])
    assert torch.equal(drawn.offsets[0], places[drawn.index[0]])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (((9, 9), 10), {}, ValueError, "patch_size must fit in the image, 9 x 9; got 10 x 10"),
        (((9, 9), 3, 2), {"overlap": 1}, ValueError, "stride and overlap"),
        (((9, 9), 3), {"overlap": 3}, ValueError, r"overlap\[0\] must be between 0 and 2"),
        (((9, 9), 3), {"overlap": (1, 1, 1)}, ValueError, "overlap must be"),
        (((9, 9), 3, 0), {}, ValueError, r"stride\[0\] must be between 1"),
        (((9, 9), 3), {"edge": "shift"}, ValueError, "edge must be one of 'inside', 'cover'"),
        (((1 << 20, 1 << 20), 3, 1), {}, ValueError, "stride must leave at most"),
        (((9, 9), 3), {"mask": torch.zeros(2, 2, dtype=torch.bool)}, ValueError, "nothing could be drawn"),
        (((9, 9), 3.0), {}, TypeError, "patch_size must be"),
    ],
)
def test_bad_arguments_are_answered(arguments, options, error, message):
    with pytest.raises(error, match=message):
        zoomkern.grid_places(*arguments, **options)

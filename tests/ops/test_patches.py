"""Drawing and reading in one call is drawing, placing and reading in three."""

import itertools
from fractions import Fraction
from math import floor

import pytest
import torch
from torch._subclasses import FakeTensorMode

from zoomkern import ImageBank, PinnedImage, Pyramid, cell_offsets, gather_patches, sample, sample_patches
from zoomkern.typing import PADDED_OFFSET

SAMPLERS = ["gumbel", "threshold", "replacement", "topk"]


def picture(channels, height, width, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (channels, height, width), generator=generator).to(dtype)


IMAGES = {
    "batch": torch.stack([picture(3, 61, 83), picture(3, 61, 83).flip(2)]),
    "interleaved": torch.stack([picture(3, 61, 83)] * 2).to(memory_format=torch.channels_last),
    "list": [picture(3, 61, 83), picture(3, 40, 200)],
    "pinned": [PinnedImage(picture(3, 17, 90)), picture(3, 64, 64)],
    "bank": ImageBank([picture(3, 9, 9), picture(3, 61, 83), picture(3, 50, 50, torch.float32)])[[2, 1]],
    "pyramids": [Pyramid.build(picture(3, 128, 96), levels=2), Pyramid.build(picture(3, 90, 100), levels=2)],
}


def sizes_of(images, level=None):
    if isinstance(images, torch.Tensor):
        members = list(images)
    elif hasattr(images, "table"):
        members = [images.images[i] for i in images.ids.tolist()]
    else:
        members = [image[level or 0] if isinstance(image, Pyramid) else image for image in images]
    return torch.tensor([[image.shape[1], image.shape[2]] for image in members])


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_is_sample_and_cell_offsets_and_gather_patches(backend, sampler, name):
    images, level = IMAGES[name], 1 if name == "pyramids" else None
    modes = itertools.product(
        ["center", "corners"], ["constant", "shift"], [torch.contiguous_format, torch.channels_last]
    )
    for run, (align, padding_mode, layout) in enumerate(modes):
        logits = torch.randn(2, 5, 7) * 2
        mask = torch.rand(2, 5, 7) > 0.3
        draw = {"sampler": sampler, "mask": mask, "temperature": 0.7, "seed": torch.tensor([run, -run - 1])}
        if run % 2:
            draw |= {"max_samples": 6, "on_short": "pad"}
        count = torch.tensor([6, 2]) if run % 2 else 4
        place = {"step": 1 + run % 3, "align": align}
        read = {"level": level, "padding_mode": padding_mode, "fill": 7, "scale": (0.5, 2.0, -1.0), "shift": 0.25}
        read |= {"dtype": [torch.float32, torch.bfloat16][run % 2], "memory_format": layout, "step": place["step"]}

        given = sample_patches(images, logits, count, (9, 6), align=align, backend=backend, **draw, **read)

        drawn = sample(logits, count, backend=backend, **draw)
        offsets = cell_offsets(drawn.index, (5, 7), sizes_of(images, level), (9, 6), **place)
        patches = gather_patches(images, offsets, (9, 6), backend=backend, **read)
        for part, expected in zip(given.sample, drawn, strict=True):
            assert torch.equal(part, expected)
        assert torch.equal(given.patches, patches)
        assert given.patches.stride() == patches.stride()
        if padding_mode == "constant":
            assert torch.equal(given.offsets, offsets)
        else:
            inside = gather_patches(
                images, given.offsets, (9, 6), backend=backend, **{**read, "padding_mode": "constant"}
            )
            assert torch.equal(inside, patches)


def expected_start(cell, cells, pixels, extent, align):
    """From the definition, in rational numbers."""
    if align == "corners" and cells > 1:
        return floor(Fraction(cell * (pixels - 1), cells - 1)) - extent // 2
    middle = (cell + Fraction(1, 2)) * Fraction(pixels, cells)
    return floor(middle - Fraction(extent, 2))


@pytest.mark.parametrize("align", ["center", "corners"])
def test_both_alignments_are_their_definitions(backend, align):
    compared = 0
    for (rows, columns), (height, width), size, step in itertools.product(
        [(1, 1), (1, 7), (4, 3), (5, 1), (13, 11)], [(1, 1), (8, 9), (13, 100), (37, 5)], [(1, 1), (4, 7)], [1, 2, 3]
    ):
        index = torch.arange(rows * columns)[None]
        expected = [
            [expected_start(cell // columns, rows, height, step * size[0], align) for cell in range(rows * columns)],
            [expected_start(cell % columns, columns, width, step * size[1], align) for cell in range(rows * columns)],
        ]
        places = cell_offsets(index, (rows, columns), (height, width), size, step=step, align=align)
        assert places[0].T.tolist() == expected
        drawn = sample_patches(
            torch.zeros(1, 1, 1, 1).expand(1, 1, height, width),
            torch.zeros(1, rows, columns),
            rows * columns,
            size,
            step=step,
            align=align,
            seed=0,
            backend=backend,
        )
        assert torch.equal(drawn.offsets[0], places[0, drawn.index[0]])
        compared += rows * columns
    assert compared == (1 + 7 + 12 + 5 + 143) * 4 * 2 * 3


@pytest.mark.parametrize("align", ["center", "corners"])
def test_an_image_as_large_as_sizes_go_is_placed_without_overflow(backend, align):
    pixels, cells = (1 << 31) - 1, 50_000
    image = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, pixels, pixels)
    index = torch.tensor([[0, 1, cells - 1, cells // 2]])

    drawn = sample_patches(
        [image], torch.zeros(1, 1, cells), 4, 64, step=1000, align=align, sampler="topk", seed=0, backend=backend
    )
    places = cell_offsets(index, (cells, 1), (pixels, pixels), 64, step=1000, align=align)

    for item, offset in zip(drawn.index[0].tolist(), drawn.offsets[0].tolist(), strict=True):
        assert offset == [
            expected_start(0, 1, pixels, 64_000, align),
            expected_start(item, cells, pixels, 64_000, align),
        ]
    assert places[0, :, 0].tolist() == [expected_start(i, cells, pixels, 64_000, align) for i in index[0].tolist()]


def test_one_grid_means_other_pixels_in_images_of_other_sizes(backend):
    images = [picture(1, 40, 60), picture(1, 400, 30), picture(1, 4, 6)]
    logits = torch.zeros(3, 4, 6)

    drawn = sample_patches(images, logits, 24, 2, seed=1, backend=backend)

    for b, (height, width) in enumerate([(40, 60), (400, 30), (4, 6)]):
        for item, offset in zip(drawn.index[b].tolist(), drawn.offsets[b].tolist(), strict=True):
            row, column = divmod(item, 6)
            assert offset == [
                expected_start(row, 4, height, 2, "center"),
                expected_start(column, 6, width, 2, "center"),
            ]


@pytest.mark.parametrize("per_image", [False, True])
def test_locations_are_where_the_items_of_a_list_lie(backend, per_image):
    images = [picture(2, 30, 40), picture(2, 50, 20)]
    locations = torch.randint(-5, 45, (2, 9, 2))
    locations[0, 3] = torch.tensor([1 << 62, -(1 << 63)])
    if not per_image:
        locations = locations[0]
    logits = torch.randn(2, 9)

    drawn = sample_patches(images, logits, 9, (5, 4), locations=locations, fill=3, seed=2, backend=backend)

    expected = locations.expand(2, 9, 2).gather(1, drawn.index[..., None].expand(-1, -1, 2))
    assert torch.equal(drawn.offsets, expected)
    assert torch.equal(drawn.patches, gather_patches(images, expected, (5, 4), fill=3, backend=backend))


def test_shorter_bags_are_masked(backend):
    locations = torch.arange(10).reshape(5, 2)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])

    drawn = sample_patches(
        torch.ones(2, 1, 20, 20),
        torch.zeros(2, 5),
        4,
        3,
        locations=locations,
        mask=mask,
        on_short="pad",
        fill=-1,
        seed=0,
        backend=backend,
    )

    assert sorted(drawn.index[1].tolist()) == [-1, -1, 0, 1]
    assert (drawn.offsets[1, 2:] == PADDED_OFFSET).all()
    assert (drawn.patches[1, 2:] == -1).all()
    assert (drawn.patches[1, :2] == 1).all()
    assert (drawn.weight[1, 2:] == 0).all()
    assert drawn.weight[1].sum().item() == pytest.approx(1)


def test_windows_are_moved_inside_before_their_offsets_are_told(backend):
    images = torch.arange(100.0).reshape(1, 1, 10, 10)

    drawn = sample_patches(images, torch.zeros(1, 4, 4), 16, (4, 3), padding_mode="shift", seed=0, backend=backend)

    assert drawn.offsets.min() >= 0
    assert (drawn.offsets <= torch.tensor([6, 7])).all()
    for (y, x), patch in zip(drawn.offsets[0].tolist(), drawn.patches[0, :, 0], strict=True):
        assert torch.equal(patch, images[0, 0, y : y + 4, x : x + 3])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learn", [False, True])
def test_out_holds_what_would_be_returned(backend, layout, learn):
    images, logits = IMAGES["batch"], torch.randn(2, 5, 7, requires_grad=learn)
    options = {"memory_format": layout, "dtype": torch.float16, "mean": 0.5, "std": 0.2, "seed": 3, "backend": backend}
    expected = sample_patches(images, logits, 4, (6, 5), **options)
    out = torch.full_like(expected.patches, torch.nan)

    given = sample_patches(images, logits, 4, (6, 5), out=out, **options)

    assert given.patches is out
    for part, known in zip(given, expected, strict=True):
        assert torch.equal(part, known)
    if learn:
        (grad,), (known,) = (torch.autograd.grad(drawn.log_prob.sum(), logits) for drawn in (given, expected))
        assert torch.equal(grad, known)


def calls(function):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    return [event.name for event in profile.events() if event.name.startswith("zoomkern::")]


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("name", ["batch", "list", "bank"])
def test_it_is_one_call_of_the_dispatcher(native, name, learn):
    logits = torch.zeros(2, 5, 7, requires_grad=learn)
    out = torch.empty(2, 3, 3, 8, 8)

    assert calls(lambda: sample_patches(IMAGES[name], logits, 3, 8, seed=0, backend=native)) == [
        "zoomkern::sample_patches"
    ]
    assert calls(lambda: sample_patches(IMAGES[name], logits, 3, 8, seed=0, out=out, backend=native)) == [
        "zoomkern::sample_patches_out"
    ]
    own = calls(lambda: sample_patches(IMAGES[name], logits, 3, 8, backend=native))
    assert [call for call in own if call != "zoomkern::draw_seed"] == ["zoomkern::sample_patches"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_grid_of_more_than_two_to_the_24_cells(native, sampler):
    side = 4100  # 16.8 million cells, of which the last few may be drawn
    logits = torch.full((1, side, side), -torch.inf)
    last = side * side - torch.arange(1, 9)
    logits.view(-1)[last] = 0.0
    image = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, 3 * side, 3 * side)

    drawn = sample_patches([image], logits, 5, 3, sampler=sampler, seed=0, backend=native)

    assert set(drawn.index[0].tolist()) <= set(last.tolist())
    assert drawn.index.min() > 1 << 24
    expected = [[index // side * 3, index % side * 3] for index in drawn.index[0].tolist()]
    assert drawn.offsets[0].tolist() == expected
    assert drawn.log_prob[0].tolist() == pytest.approx([-2.0794415] * 5)


def test_a_far_item_of_a_long_list_is_found(backend):
    logits = torch.full((1, (1 << 24) + 9), -100.0)
    logits[0, (1 << 24) + 5] = 100.0
    locations = torch.zeros(1, 1, dtype=torch.int64).expand((1 << 24) + 9, 2)

    drawn = sample_patches(
        torch.ones(1, 1, 2, 2), logits, 1, 1, locations=locations, sampler="topk", seed=0, backend=backend
    )

    assert drawn.index.tolist() == [[(1 << 24) + 5]]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("padding_mode", ["constant", "shift"])
def test_both_gradients_agree_with_the_reference(native, sampler, padding_mode):
    generator = torch.Generator().manual_seed(5)
    pixels = [torch.rand(2, 20, 30, generator=generator), torch.rand(2, 15, 11, generator=generator)]
    scores = torch.randn(2, 4, 5, generator=generator)
    for dtype, layout in itertools.product(
        [torch.float64, torch.float32], [torch.contiguous_format, torch.channels_last]
    ):
        grads = []
        for backend in ("reference", native):
            images, logits = [p.to(dtype).requires_grad_() for p in pixels], scores.to(dtype).requires_grad_()
            drawn = sample_patches(
                images,
                logits,
                6,
                (7, 5),
                sampler=sampler,
                padding_mode=padding_mode,
                memory_format=layout,
                seed=3,
                step=2,
                scale=(0.3, -1.0),
                dtype=dtype,
                backend=backend,
            )
            value = (
                drawn.patches.cos().sum((2, 3, 4)) * drawn.weight * (drawn.log_prob - drawn.log_prob.detach()).exp()
            ).sum()
            grads.append(torch.autograd.grad(value, [logits, *images]))
        for expected, given in zip(*grads, strict=True):
            torch.testing.assert_close(given, expected)


def test_an_image_of_integers_may_be_refilled_before_the_backward_pass(backend):
    images = picture(3, 40, 50)[None].clone()
    logits = torch.randn(1, 5, 6, requires_grad=True)
    drawn = sample_patches(images, logits, 3, 8, seed=1, backend=backend)
    images.zero_()
    drawn.log_prob.sum().backward()

    again = sample(logits.detach().requires_grad_(), 3, seed=1, backend=backend)
    assert torch.equal(again.index, drawn.index)
    assert logits.grad.abs().sum() > 0


def test_a_grid_without_cells_is_padded(backend):
    images = picture(3, 20, 20)[None]
    drawn = sample_patches(images, torch.zeros(1, 0, 0), 2, 4, on_short="pad", fill=9, seed=0, backend=backend)

    assert drawn.index.tolist() == [[-1, -1]]
    assert (drawn.offsets == PADDED_OFFSET).all()
    assert (drawn.patches == 9).all()


def test_writing_to_out_is_seen_by_a_graph_that_saved_it(backend):
    images, offsets = picture(3, 20, 20)[None], torch.zeros(1, 1, 2, dtype=torch.int64)
    out = torch.ones(1, 1, 3, 4, 4)
    weight = torch.ones(1, requires_grad=True)
    product = (out * weight).sum()
    gather_patches(images, offsets, 4, out=out, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    product = (out * weight).sum()
    sample_patches(images, torch.zeros(1, 2, 2), 1, 4, out=out, seed=0, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_log_prob_needs_a_gradient_only_where_the_logits_do(backend):
    images = torch.rand(1, 2, 20, 20, requires_grad=True)
    drawn = sample_patches(images, torch.zeros(1, 3, 3), 2, 4, seed=0, backend=backend)
    assert drawn.patches.requires_grad
    assert not drawn.log_prob.requires_grad
    drawn.patches.sum().backward()
    assert images.grad.sum() > 0


def test_out_works_where_tensors_hold_no_data(backend):
    with FakeTensorMode():
        images, offsets = torch.zeros(1, 2, 20, 20), torch.zeros(1, 3, 2, dtype=torch.int64)
        out = torch.empty(1, 3, 2, 4, 4)
        assert gather_patches(images, offsets, 4, out=out, backend=backend) is out

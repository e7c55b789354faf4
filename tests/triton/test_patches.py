"""Drawing and reading in Triton's interpreter: what the CPU library gives, or the reference where it was not built."""

import random

import pytest
import torch

from zoomkern import ImageBank
from zoomkern.ops.library import MISSING
from zoomkern.reference import offsets as reference_offsets
from zoomkern.reference import patches as reference
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES

pytest.importorskip("triton")
from zoomkern.triton import patches

FLOAT32 = PIXEL_DTYPES.index(torch.float32)


def table_of(sizes):
    """Descriptors of images of some sizes, of which nothing is read."""
    return torch.tensor([[0, 1, height, width, 1, 1, 1, 0] for height, width in sizes])


@pytest.mark.parametrize("align", range(len(reference_offsets.ALIGNMENTS)))
@pytest.mark.parametrize("shift", [False, True])
def test_cells_start_where_the_reference_places_them(device, align, shift):
    rng = random.Random(align)
    for _ in range(60):
        rows, columns = rng.choice((1, 2, 5, 97, 0)), rng.choice((1, 3, 8, 1000))
        sizes = [(rng.randint(0, 50), rng.choice((1, 37, 4_000_000_000))) for _ in range(2)]
        index = torch.tensor([[rng.randrange(max(rows * columns, 1)) for _ in range(70)] for _ in sizes])
        index[:, rng.randrange(70) :] = -1
        if rows == 0:
            index[:] = -1
        extent = (rng.randint(1, 90), rng.randint(1, 90), rng.choice((1, 3)))
        given = patches.place_offsets(
            index.to(device), table_of(sizes).to(device), None, rows, columns, align, *extent, shift
        )
        name, where = reference_offsets.ALIGNMENTS[align], torch.tensor(sizes)
        wanted = reference.place_offsets(index, where, (rows, columns), None, extent[:2], extent[2], name, shift)
        assert torch.equal(given.cpu(), wanted), (rows, columns, sizes, extent)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("shape", [(9, 2), (3, 9, 2), (0, 2), (3, 0, 2)])
def test_listed_places_are_looked_up(device, shape, shift):
    locations = torch.randint(-100, 100, shape)
    if locations.numel():
        locations.view(-1)[0], locations.view(-1)[-1] = -(1 << 63), (1 << 63) - 1
    sizes = [(30, 40), (5, 200), (64, 1)]
    index = torch.randint(-1, 9, (3, 150)) if locations.numel() else torch.full((3, 4), -1)
    given = patches.place_offsets(
        index.to(device), table_of(sizes).to(device), locations.to(device), 0, 0, 0, 16, 5, 2, shift
    )
    wanted = reference.place_offsets(index, torch.tensor(sizes), None, locations, (16, 5), 2, "center", shift)
    assert torch.equal(given.cpu(), wanted)
    assert (given.cpu()[index < 0] == PADDED_OFFSET).all()


def test_every_other_column_of_locations_is_read_with_its_strides(device):
    locations = torch.arange(40, device=device).view(10, 4)[:, ::2]
    index = torch.tensor([[3, 9]], device=device)
    given = patches.place_offsets(index, table_of([(9, 9)]).to(device), locations, 0, 0, 0, 2, 2, 1, False)
    assert given.tolist() == [[[12, 14], [36, 38]]]


RULES = [(name, rule) for name in SAMPLERS for rule in ESTIMATORS[name]]


def call(run, sampler, estimator, listed):
    """Operands of a call: draws of a grid or of a list, from images of two pixel types."""
    torch.manual_seed(run)
    rng = random.Random(run)
    kind = (torch.float32, torch.float64, torch.bfloat16)[run % 3]
    logits, mask = torch.randn(2, 35).to(kind), torch.rand(2, 35) > 0.3
    seed, counts = torch.tensor([run, -run - 1]), torch.tensor([4, 2]) if run % 2 else None
    locations = torch.randint(-9, 70, (2, 35, 2)[run % 2 :]) if listed else None
    conversion = torch.randn(3, 3, dtype=torch.float64)
    codes = (SAMPLERS.index(sampler), ESTIMATORS[sampler].index(estimator))
    drawing = (0 if listed else 5, 0 if listed else 7, rng.randrange(2), 4, *codes, run % 2 > 0)
    reading = (6, 9, rng.choice((1, 2)), rng.random() < 0.5, FLOAT32, rng.random() < 0.5)
    images = [torch.randint(0, 256, (3, 40, 31), dtype=torch.uint8), torch.randn(3, 19, 80)]
    return images, [logits, mask, seed, counts, locations], (conversion, *drawing, *reading)


def moved(tensors, device):
    return [None if tensor is None else tensor.to(device) for tensor in tensors]


@pytest.mark.parametrize(("run", "rule"), list(enumerate([*RULES, *RULES])))
def test_draws_and_patches_are_those_of_the_cpu(device, run, rule):
    images, draw, settings = call(run, *rule, run < len(RULES))
    here = moved(images, device)
    images_or_table = ([], ImageBank(here).table) if run % 3 == 0 else (here, None)
    given = patches.sample_patches(*images_or_table, *moved(draw, device), *settings)
    for mine, theirs in zip(given, expected(images, *draw, *settings), strict=False):
        assert torch.equal(mine.cpu(), theirs)


def test_the_rest_is_what_sampling_gives_and_out_is_written(device):
    images, draw, settings = call(1, *RULES[1], False)
    images, draw = moved(images, device), moved(draw, device)
    wanted = patches.sample_patches(images, None, *draw, *settings)
    _, rows, columns, _, *rule = settings[:8]
    for mine, theirs in zip((wanted[1], *wanted[3:]), patches.sample(*draw[:4], *rule, columns), strict=True):
        assert torch.equal(mine, theirs)
    out = torch.full_like(wanted[0], torch.nan)
    given = patches.sample_patches_out(out, images, None, *draw, *settings)
    for mine, theirs in zip((out, *given), wanted, strict=True):
        assert torch.equal(mine, theirs)


def expected(images, logits, mask, seed, counts, locations, conversion, *settings):
    """patches, index and offsets."""
    if MISSING["cpu"] is None:
        draw = (logits, mask, seed, counts, locations, conversion)
        return torch.ops.zoomkern.sample_patches(images, None, *draw, *settings)[:3]
    rows, columns, align, count, sampler, estimator, pad, height, width, step, shift, dtype, channels_last = settings
    name = SAMPLERS[sampler]
    drawing = (count, name, ESTIMATORS[name][estimator], pad)
    reading = ((height, width), step, reference_offsets.ALIGNMENTS[align], shift, PIXEL_DTYPES[dtype])
    grid = (rows, columns) if locations is None else None
    given = reference.sample_patches(
        images, logits, mask, seed, counts, locations, conversion, grid, *drawing, *reading
    )[:3]
    return (given[0].permute(0, 1, 3, 4, 2) if channels_last else given[0], *given[1:])


@pytest.mark.parametrize(("batch", "draws"), [(0, 3), (2, 0)])
def test_nothing_to_draw_is_an_empty_result(device, batch, draws):
    images = torch.zeros(batch, 3, 9, 9, device=device)
    logits, seed = torch.zeros(batch, 12, device=device), torch.tensor(0, device=device)
    conversion = torch.zeros(3, 3, dtype=torch.float64)
    draw = (logits, None, seed, None, None, conversion, 3, 4, 0, draws, 0, 0, False)
    given = patches.sample_patches([images], None, *draw, 2, 2, 1, False, FLOAT32, False)
    assert [tuple(part.shape) for part in given[:3]] == [(batch, draws, 3, 2, 2), (batch, draws), (batch, draws, 2)]


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({"rows": 2}, "logits must cover the grid"),
        ({"rows": -3, "columns": -4}, "logits must cover the grid"),
        ({"locations": torch.zeros(11, 2, dtype=torch.int64)}, "locations must be"),
        ({"locations": torch.zeros(2, 12, 2, dtype=torch.int64)}, "locations must be"),
        ({"locations": torch.zeros(12, 2)}, "locations must be int64"),
    ],
)
def test_places_that_do_not_fit_the_logits_are_refused(device, change, needed):
    settings = {"locations": None, "rows": 3, "columns": 4} | change
    locations = settings["locations"] if settings["locations"] is None else settings["locations"].to(device)
    images, logits = torch.zeros(1, 3, 9, 9, device=device), torch.zeros(1, 12, device=device)
    conversion = torch.zeros(3, 3, dtype=torch.float64)
    draw = (logits, None, torch.tensor(0, device=device), None, locations, conversion)
    drawing = (settings["rows"], settings["columns"], 0, 2, 0, 0, False)
    with pytest.raises(ValueError, match=needed):
        patches.sample_patches([images], None, *draw, *drawing, 2, 2, 1, False, FLOAT32, False)

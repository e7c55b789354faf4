"""``zoomkern.sample_patches``: draw and read, the main job."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, floor, workloads
from bench.timing import Rival
from bench.workloads import MEAN, STD

BATCH, DRAWS, PATCH, GRID, TURNS = 4, 64, 128, 256, 8
WORK = f"B = {BATCH} of 8192 x 8192 x 3 uint8, {GRID} x {GRID} logits, N = {DRAWS}, {PATCH} x {PATCH} float32"
SHAPE = (BATCH, DRAWS, 3, PATCH, PATCH)
BYTES = BATCH * DRAWS * 3 * PATCH * PATCH * (4 + 1)


def call(images, logits, **options):
    """Windows that overlap the border are moved inside, as slicing needs them."""
    return zoomkern.sample_patches(images, logits, DRAWS, PATCH, mean=MEAN, std=STD, padding_mode="shift", **options)


def fill_and_read(pictures, logits, out):
    """The result filled, and each line of as many patches read once: one pass after the other, by torch."""
    places = [call(pictures, logits).offsets for _ in range(TURNS)]
    reader = workloads.rotate([floor.patch_reader(pictures, at, PATCH) for at in places])

    def least():
        reader()()
        return floor.fill_fresh(SHAPE) if out is None else out.fill_(1.0)

    return least


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "out"])
def test_patches(record, pictures, fresh):
    logits = workloads.attention(BATCH, GRID, GRID)
    out = None if fresh else torch.empty(SHAPE)

    def ours():
        return call(pictures, logits, out=out)

    drawn = ours()
    at = baselines.grid_offsets(drawn.index, (GRID, GRID), pictures[0].shape[1:], PATCH)
    assert torch.equal(drawn.offsets, at)
    assert torch.equal(drawn.patches, baselines.formula(pictures, at, PATCH))
    assert all(len(row.unique()) == DRAWS for row in drawn.index)
    for gather in (baselines.slice_stack, baselines.slice_into):
        torch.testing.assert_close(gather(pictures, at, PATCH), drawn.patches, rtol=0, atol=2e-6)

    record(
        "fresh" if fresh else "out",
        WORK + (", a new tensor" if fresh else ", out="),
        ours,
        [
            Rival(
                "naive pipeline",
                lambda: baselines.naive_pipeline(pictures, logits, DRAWS, PATCH),
                7 if fresh else 15,
            ),
            Rival("Gumbel topk, slices in place", lambda: baselines.race_pipeline(pictures, logits, DRAWS, PATCH, out)),
            Rival("floor: fill + read", fill_and_read(pictures, logits, out), 1 / 1.5),
        ],
        bytes_moved=BYTES,
        share_of="fill",
    )


def test_draw_read_and_backward(record, pictures):
    logits = workloads.attention(BATCH, GRID, GRID).requires_grad_()
    out = torch.empty(SHAPE)

    def ours():
        drawn = call(pictures, logits, out=out)
        return torch.autograd.grad(drawn.log_prob.sum(), logits)[0]

    def naive():
        p = logits.flatten(1).softmax(-1)
        index = torch.multinomial(p.detach(), DRAWS)
        at = baselines.grid_offsets(index, (GRID, GRID), pictures[0].shape[1:], PATCH)
        patches = baselines.slice_stack(pictures, at, PATCH)
        assert patches.shape == SHAPE
        return torch.autograd.grad(p.gather(1, index).log().sum(), logits)[0]

    index = call(pictures, logits, seed=1).index
    expected = torch.autograd.grad(logits.flatten(1).log_softmax(-1).gather(1, index).sum(), logits)[0]
    given = torch.autograd.grad(call(pictures, logits, seed=1).log_prob.sum(), logits)[0]
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    record(
        "backward",
        WORK + ", out=, with the gradient of log_prob",
        ours,
        [Rival("naive pipeline", naive)],
        bytes_moved=BYTES + 3 * logits.nbytes,
        share_of="fill",
    )


def test_second_core(record, pictures):
    """Beside what the second core gives to writing alone, in memory that no cache holds."""
    logits, out = workloads.attention(BATCH, GRID, GRID), torch.empty(SHAPE)
    memory = torch.empty(1 << 26)

    def ours():
        return call(pictures, logits, out=out)

    least = fill_and_read(pictures, logits, out)
    record(
        "second-core",
        WORK + ", out=",
        ours,
        [
            Rival("one thread", ours, 1.7, threads=1),
            Rival("floor: fill + read", least),
            Rival("floor: fill + read, one thread", least, threads=1),
            Rival("fill of 268 MB", lambda: memory.fill_(1.0)),
            Rival("fill of 268 MB, one thread", lambda: memory.fill_(1.0), threads=1),
        ],
        bytes_moved=BYTES,
        share_of="fill",
    )

"""``zoomkern.sample_patches`` from page-locked memory, and a whole two-stage training step."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, workloads
from bench.gpu.graphs import captured
from bench.gpu.zoom import BATCH, SIDE, PublishedStep, Step
from bench.timing import Rival
from bench.workloads import GIGABYTE, MEAN, STD

WORKS = {"64x100": (64, 100, 15, 20), "1024x224": (1024, 224, 10, None)}
GRID = 256


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", WORKS)
def test_patches(record, device, picture, name, graph):
    draws, patch, *goals = WORKS[name]
    image, logits = picture(GIGABYTE), workloads.attention(1, GRID, GRID).cuda()

    def ours():
        read = {"mean": MEAN, "std": STD, "padding_mode": "shift", "dtype": torch.float16}
        return zoomkern.sample_patches([image], logits, draws, patch, **read)

    drawn = ours()
    at = baselines.grid_offsets(drawn.index.cpu(), (GRID, GRID), image.shape[1:], patch)
    assert torch.equal(drawn.offsets.cpu(), at)
    assert torch.equal(drawn.patches.cpu(), baselines.formula([image.tensor], at, patch).half())
    staging = torch.empty(draws, 3, patch, patch, dtype=torch.uint8, pin_memory=True)
    race = torch.compile(baselines.gumbel_topk, dynamic=False)

    def pipeline(draw, into):
        index = draw(logits.flatten(1), draws).cpu()
        places = baselines.grid_offsets(index, (GRID, GRID), image.shape[1:], patch)
        return baselines.host_gather(image.tensor, places[0], patch, into)

    record(
        f"{'graph' if graph else 'eager'}-{name}",
        f"one image of {GIGABYTE} x {GIGABYTE} x 3 uint8, page-locked, {GRID} x {GRID} logits, N = {draws}, "
        f"{patch} x {patch} float16" + (", in a CUDA graph" if graph else ""),
        captured(ours) if graph else ours,
        [
            Rival("naive pipeline", lambda: pipeline(baselines.softmax_multinomial, None), goals[graph]),
            Rival("compiled topk, page-locked buffer", lambda: pipeline(race, staging)),
        ],
        bytes_moved=draws * 3 * patch * patch,
        share_of=None,
        device=device,
    )


def test_zoom_in_step(record, device):
    step, published = Step(), PublishedStep()
    for run in (step, published):
        assert torch.isfinite(run())
    record(
        "zoom-in-step",
        f"{BATCH} images of {SIDE} x {SIDE}, one training step of the two-stage network in one CUDA graph",
        captured(step),
        [Rival("as published, batched", published, 8), Rival("zoomkern without a graph", Step())],
        bytes_moved=step.nbytes,
        share_of=None,
        device=device,
    )

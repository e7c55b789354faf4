"""Draws in a CUDA graph: of attention to one place, and of rows of the sizes at which kernels change their ways.

Where few items hold nearly all the mass it is hard to bound. The rival draws from diffuse attention, the easy case:
what a hot place costs beyond it, and whether the launch that looks for hot places is worth its time, which both pay.
"""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, workloads
from bench.gpu.graphs import captured
from bench.timing import Rival

SIDE = 1000
ROWS = (1024, 10_000, 22_528, 22_529)  # of a warp, of a block that keeps them in shared memory, of several blocks
HOT = {"40": (40, 12.0), "100": (100, 10.0)}  # side of the hot place, by how much it stands out


@pytest.mark.parametrize("draws", [256, 1024])
@pytest.mark.parametrize("name", HOT)
def test_draw_of_a_hot_place(record, device, name, draws):
    block, height = HOT[name]
    hot = workloads.hot_attention(SIDE, block, height).flatten()[None].to(device)
    diffuse = workloads.attention(1, SIDE * SIDE).to(device)
    for logits in (hot, diffuse):
        index = zoomkern.sample(logits, draws, seed=1).index
        assert torch.equal(index.cpu(), zoomkern.sample(logits.cpu(), draws, seed=1).index)
    record(
        f"hot-{name}-N{draws}",
        f"gumbel in a CUDA graph, {SIDE} x {SIDE} logits, {block} x {block} of them {height:g} higher, N = {draws}",
        captured(lambda: zoomkern.sample(hot, draws)),
        [
            Rival("the same of diffuse attention", captured(lambda: zoomkern.sample(diffuse, draws)), 0.67),
            Rival("topk of logits + Gumbel", captured(lambda: baselines.gumbel_topk(hot, draws))),
        ],
        bytes_moved=hot.nbytes,
        device=device,
    )


@pytest.mark.parametrize("batch", [1, 512])
@pytest.mark.parametrize("items", ROWS)
def test_rows(record, device, items, batch):
    draws = 64
    logits = workloads.attention(batch, items).to(device)
    index = zoomkern.sample(logits, draws, seed=1).index
    assert torch.equal(index.cpu(), zoomkern.sample(logits.cpu(), draws, seed=1).index)
    record(
        f"rows-B{batch}-L{items}",
        f"gumbel in a CUDA graph, B = {batch}, L = {items:,}, N = {draws}",
        captured(lambda: zoomkern.sample(logits, draws)),
        [Rival("topk of logits + Gumbel", captured(lambda: baselines.gumbel_topk(logits, draws)))],
        bytes_moved=logits.nbytes,
        device=device,
    )

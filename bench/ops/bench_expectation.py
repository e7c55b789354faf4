"""``zoomkern.expectation``: the attention-weighted mean feature, forward and with its gradients."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, workloads
from bench.timing import Rival

BATCH, DRAWS, FEATURES = 8, 64, 512
WORK = f"B = {BATCH}, N = {DRAWS}, D = {FEATURES}, float32"


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_expectation(record, device, backward):
    drawn = zoomkern.sample(workloads.attention(BATCH, 1024).to(device), DRAWS, seed=0)
    features = torch.randn(BATCH, DRAWS, FEATURES, device=device, requires_grad=backward)
    log_prob = drawn.log_prob.detach().requires_grad_(backward)
    sample = drawn._replace(log_prob=log_prob)
    grad = torch.randn(BATCH, FEATURES, device=device)

    def run(pool):
        pooled = pool()
        return torch.autograd.grad(pooled, (features, log_prob), grad) if backward else (pooled,)

    pools = {
        "ours": lambda: zoomkern.expectation(features, sample),
        "plain expression": lambda: baselines.weighted_sum(features, log_prob, drawn.weight),
        "einsum": lambda: baselines.weighted_einsum(features, log_prob, drawn.weight),
    }
    for pool in pools.values():
        for given, expected in zip(run(pool), run(pools["einsum"]), strict=True):
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    ours, *rivals = ((name, lambda pool=pool: run(pool)) for name, pool in pools.items())
    moved = features.nbytes + grad.nbytes
    record(
        "backward" if backward else "forward",
        WORK + (", with both gradients" if backward else ""),
        ours[1],
        [Rival(name, pool) for name, pool in rivals],
        bytes_moved=moved + 2 * features.nbytes if backward else moved,
        device=device,
    )

"""``zoomkern.sample``: indices, log-probabilities and weights, against expressions that give indices alone."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, workloads
from bench.timing import Rival

DRAWS = 64
NAIVE, RACE = "softmax + multinomial", "topk of logits + Gumbel"
RIVALS = {
    "gumbel": {NAIVE: baselines.softmax_multinomial, RACE: baselines.gumbel_topk},
    "threshold": {NAIVE: baselines.softmax_multinomial, "cumsum + searchsorted": baselines.systematic},
    "replacement": {
        NAIVE: lambda x, n: baselines.softmax_multinomial(x, n, True),
        "cumsum + searchsorted": baselines.cumsum_search,
    },
    "topk": {"softmax + topk": baselines.softmax_topk, "topk": baselines.topk},
}
GOALS = {("gumbel-L1e4", NAIVE): 6, ("gumbel-L1e6", NAIVE): 12, ("gumbel-L1e6", RACE): 4}
NAMES = {10**4: "1e4", 10**6: "1e6", 10**7: "1e7"}


def check(index: torch.Tensor, items: int, distinct: bool) -> None:
    assert index.shape == (1, DRAWS)
    assert 0 <= int(index.min()) <= int(index.max()) < items
    assert not distinct or len(index.unique()) == DRAWS


@pytest.mark.parametrize("items", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("sampler", RIVALS)
def test_draw(record, sampler, items):
    logits = workloads.attention(1, items)
    rivals = {name: lambda f=f: f(logits, DRAWS) for name, f in RIVALS[sampler].items()}

    def ours():
        return zoomkern.sample(logits, DRAWS, sampler=sampler)

    for index in (ours().index, *(rival() for rival in rivals.values())):
        check(index, items, distinct=sampler != "replacement")
    row = f"{sampler}-L{NAMES[items]}"
    record(
        row,
        f"{sampler}, B = 1, L = {items:,}, N = {DRAWS}",
        ours,
        [Rival(name, rival, GOALS.get((row, name))) for name, rival in rivals.items()],
        bytes_moved=logits.nbytes,
    )


@pytest.mark.parametrize("items", [10**4, 10**6], ids=["1e4", "1e6"])
def test_draw_and_backward(record, items):
    logits = workloads.attention(1, items).requires_grad_()

    def ours():
        return torch.autograd.grad(zoomkern.sample(logits, DRAWS).log_prob.sum(), logits)[0]

    def naive():
        p = logits.softmax(-1)
        return torch.autograd.grad(p.gather(1, torch.multinomial(p.detach(), DRAWS)).log().sum(), logits)[0]

    def race():
        index = baselines.gumbel_topk(logits.detach(), DRAWS)
        return torch.autograd.grad(logits.log_softmax(-1).gather(1, index).sum(), logits)[0]

    index = zoomkern.sample(logits, DRAWS, seed=1).index
    expected = torch.autograd.grad(logits.double().log_softmax(-1).gather(1, index).sum(), logits)[0]
    given = torch.autograd.grad(zoomkern.sample(logits, DRAWS, seed=1).log_prob.sum(), logits)[0]
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)
    record(
        f"backward-L{NAMES[items]}",
        f"gumbel with the gradient of log_prob, B = 1, L = {items:,}, N = {DRAWS}",
        ours,
        [Rival(NAIVE, naive), Rival(RACE, race)],
        bytes_moved=3 * logits.nbytes,
    )


def test_second_core(record):
    logits = workloads.attention(1, 10**6)

    def ours():
        return zoomkern.sample(logits, DRAWS)

    record(
        "second-core-L1e6",
        f"gumbel, B = 1, L = 1,000,000, N = {DRAWS}",
        ours,
        [Rival("one thread", ours, 1.7, threads=1)],
        bytes_moved=logits.nbytes,
    )

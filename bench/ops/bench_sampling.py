"""``zoomkern.sample``: indices, log-probabilities and weights, against expressions that give indices alone.

On a GPU also in a CUDA graph, where softmax and multinomial cannot be, and for more items than multinomial takes.
"""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, workloads
from bench.gpu.graphs import captured
from bench.timing import Rival

DRAWS = 64
NAIVE, RACE, COMPILED = "softmax + multinomial", "topk of logits + Gumbel", "the same, compiled"
RIVALS = {
    "gumbel": {NAIVE: baselines.softmax_multinomial, RACE: baselines.gumbel_topk},
    "threshold": {NAIVE: baselines.softmax_multinomial, "cumsum + searchsorted": baselines.systematic},
    "replacement": {
        NAIVE: lambda x, n: baselines.softmax_multinomial(x, n, True),
        "cumsum + searchsorted": baselines.cumsum_search,
    },
    "topk": {"softmax + topk": baselines.softmax_topk, "topk": baselines.topk},
}
GOALS = {
    "cpu": {("gumbel-L1e4", NAIVE): 6, ("gumbel-L1e6", NAIVE): 12, ("gumbel-L1e6", RACE): 4},
    "cuda": {
        ("gumbel-L1e4", NAIVE): 20,
        ("gumbel-L1e6", NAIVE): 30,
        ("gumbel-L1e7", NAIVE): 60,
        ("gumbel-B64-L1e6", NAIVE): 12,
        ("gumbel-L1e6", COMPILED): 8,
        ("gumbel-L1e7", COMPILED): 4,
    },
}
SIZES = (10**4, 10**6, 10**7)
MOST_CATEGORIES = 1 << 24


def short(items):
    return f"{items:.0e}".replace("e+0", "e")


@pytest.fixture
def cuda(device):
    if device.type != "cuda":
        pytest.skip("needs --bench-device cuda")
    return device


def check(index: torch.Tensor, items: int, distinct: bool) -> None:
    assert index.shape[1] == DRAWS
    assert 0 <= int(index.min()) <= int(index.max()) < items
    assert not distinct or all(len(row.unique()) == DRAWS for row in index)


def expressions(sampler, device):
    """The rivals' functions; on a GPU the race is also compiled, which fuses its noise."""
    found = dict(RIVALS[sampler])
    if device.type == "cuda" and sampler == "gumbel":
        torch._dynamo.reset()  # each size is compiled for itself
        found[COMPILED] = torch.compile(baselines.gumbel_topk, dynamic=False)
    return found


def measure(record, device, sampler, batch, items):
    logits = workloads.attention(batch, items).to(device)
    goals = GOALS[device.type]
    row = f"{sampler}-{'' if batch == 1 else f'B{batch}-'}L{short(items)}"
    rivals = []
    for name, function in expressions(sampler, device).items():
        if name == NAIVE and items > MOST_CATEGORIES:
            rivals.append(Rival(name, None, missing="torch.multinomial takes at most 2^24 categories"))
        else:
            rivals.append(Rival(name, lambda f=function: f(logits, DRAWS), goals.get((row, name))))

    def ours():
        return zoomkern.sample(logits, DRAWS, sampler=sampler)

    for index in (ours().index, *(rival.run() for rival in rivals if rival.run)):
        check(index, items, distinct=sampler != "replacement")
    work = f"{sampler}, B = {batch}, L = {items:,}, N = {DRAWS}"
    record(row, work, ours, rivals, bytes_moved=logits.nbytes, device=device)


@pytest.mark.parametrize("items", SIZES, ids=short)
@pytest.mark.parametrize("sampler", RIVALS)
def test_draw(record, device, sampler, items):
    measure(record, device, sampler, 1, items)


def test_draw_of_many_rows(record, cuda):
    measure(record, cuda, "gumbel", 64, 10**6)


def test_draw_beyond_what_multinomial_takes(record, cuda):
    measure(record, cuda, "gumbel", 1, 2 * 10**7)


@pytest.mark.parametrize("items", SIZES, ids=short)
def test_draw_in_a_graph(record, cuda, items):
    logits = workloads.attention(1, items).to(cuda)
    functions = expressions("gumbel", cuda)
    rivals = [Rival(name, captured(lambda f=functions[name]: f(logits, DRAWS))) for name in (RACE, COMPILED)]
    record(
        f"gumbel-graph-L{short(items)}",
        f"gumbel in a CUDA graph, B = 1, L = {items:,}, N = {DRAWS}",
        captured(lambda: zoomkern.sample(logits, DRAWS)),
        [*rivals, Rival(f"{NAIVE}, not in a graph", lambda: functions[NAIVE](logits, DRAWS))],
        bytes_moved=logits.nbytes,
        device=cuda,
    )


@pytest.mark.parametrize("items", SIZES[:2], ids=short)
def test_draw_and_backward(record, device, items):
    logits = workloads.attention(1, items).to(device).requires_grad_()

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
        f"backward-L{short(items)}",
        f"gumbel with the gradient of log_prob, B = 1, L = {items:,}, N = {DRAWS}",
        ours,
        [Rival(NAIVE, naive), Rival(RACE, race)],
        bytes_moved=3 * logits.nbytes,
        device=device,
    )


def test_second_core(record, device):
    if device.type != "cpu":
        pytest.skip("threads of the host")
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

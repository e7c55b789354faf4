"""What the benches of whole networks count, time and compare."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module


@pytest.fixture
def tensors(bench):
    return bench("bench.tensors")


@pytest.fixture
def networks(bench):
    return bench("bench.networks")


@pytest.fixture
def small(networks):
    return networks.Case(64, 0.25, 0.5, 3, 16, (32,))


def test_peak_is_that_of_the_storages_that_live(tensors):
    before = torch.zeros(1000)

    def run():
        first = before + 1  # 4,000 bytes
        before.add_(1)  # no new storage
        second = first.view(10, 100)[:, :50] * 2  # a view, and 2,000 bytes
        del first
        return second.repeat(3, 1)  # 6,000 bytes while the 2,000 live

    assert tensors.peak(run, CPU) == (8000, "repeat [30, 50]")


def test_storages_of_views_live_as_long_as_the_last(tensors):
    with tensors.LiveTensors() as counted:
        row = torch.zeros(100, 100)[0]
        torch.ones(10)
        del row
        torch.ones(9000)

    assert counted.peak == 40040
    assert counted.at == "ones [10]"


def test_peak_of_a_step_holds_activations_and_gradients(tensors):
    layer, x = nn.Linear(100, 100, bias=False), torch.zeros(50, 100)

    def run():
        layer(x).square().sum().backward()

    run()
    layer.zero_grad()
    inside = 50 * 100 * 4
    weight = 100 * 100 * 4
    found = tensors.peak(run, CPU).bytes

    # at the end the sum, its gradient, the square's and what it needs, and the gradient of the weights
    assert inside + weight < found < 4 * inside + weight + 100


def test_peak_on_a_gpu_is_the_allocators_above_the_start(tensors, monkeypatch):
    memory = {"now": 500, "most": 9000}
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: memory.update(most=memory["now"]))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: memory["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: memory["most"])

    assert tensors.peak(lambda: memory.update(most=750), torch.device("cuda")) == (250, "")


def test_flops_are_two_for_a_multiplication_with_its_addition(tensors):
    convolution = nn.Conv2d(3, 5, 3, padding=1)

    assert tensors.flops(lambda: convolution(torch.zeros(1, 3, 8, 8))) == 2 * 5 * 3 * 9 * 64


def test_shapes_alone_count_as_pixels_do(bench, networks, small):
    bench_models = bench("bench.models.bench_models")
    image = torch.zeros(3, small.size, small.size, dtype=torch.uint8)
    real = bench_models.count(networks.subject(small, "CNN", image), CPU)

    assert bench_models.on_shapes(small, "CNN") == real
    assert real["forward"]["peak_bytes"] >= 32 * small.size**2 * 4  # the first map
    assert real["step"]["flops"] > 2 * real["forward"]["flops"]


def test_every_network_is_measured(bench, small, monkeypatch):
    bench_models = bench("bench.models.bench_models")
    made = bench_models.networks.networks(small)
    monkeypatch.setattr(
        bench_models.networks, "networks", lambda case: {name: made[name] for name in made if name != "BagNet"}
    )
    rows = bench_models.measure(small, CPU, 0.0)

    assert list(rows) == ["ZoomIn", "ATS", "TopK", "IPS", "CNN"]
    for row in rows.values():
        assert row["parameter_bytes"] > 0
        for phase in (row["forward"], row["step"]):
            assert phase["time"]["rounds"] == bench_models.timing.FEWEST
            assert phase["missing"] is None
            assert phase["peak_bytes"] > 0
            assert phase["flops"] > 0


def test_a_network_that_does_not_fit_is_counted_and_not_run(bench, networks, small, monkeypatch):
    bench_models = bench("bench.models.bench_models")
    monkeypatch.setattr(bench_models, "MOST_BYTES", 10**6)
    monkeypatch.setattr(
        networks, "networks", lambda case: {"CNN": lambda: networks.DenseNetwork(2, **networks.READING)}
    )
    row = bench_models.measure(small, CPU, 0.0)["CNN"]

    assert row["forward"]["peak_bytes"] > 10**6
    assert row["forward"]["time"] is None
    assert row["step"]["missing"].startswith("needs ")


def test_what_is_said_of_the_paper_holds_of_the_shapes(networks, tensors):
    """Numbers in the text of ``network_tables.WHY``."""

    class AllTensors(tensors.LiveTensors):
        freed = 0

        def _freed(self, address, size):
            super()._freed(address, size)
            self.freed += size

    case = networks.CASES["colon"]
    one_stage = networks.subject(case, "ATS", torch.zeros(3, 500, 500, dtype=torch.uint8))
    view, patches = torch.zeros(1, 3, 100, 100), torch.zeros(case.draws, 3, case.patch, case.patch)
    with torch.no_grad(), AllTensors() as made:
        one_stage.network.attention(view)
        one_stage.network.features(patches)
    first_map = 10 * 36 * 23 * 23 * 4

    assert round((made.freed + view.nbytes + patches.nbytes) / 1e6, 1) == 4.3
    assert round(2 * first_map / 1e6, 1) == 1.5
    assert one_stage.pixels["view"][0].shape == view.shape[1:]
    dense = networks.networks(case)["CNN"]().to("meta")
    with torch.no_grad():
        operations = tensors.flops(lambda: dense.features(torch.empty(1, 3, 500, 500, device="meta")))
    assert round(operations / 2e9, 1) == 6.3


def test_large_features_are_a_resnet50(networks, tensors):
    network = networks.ResNet50().to("meta").eval()
    patch = torch.empty(1, 3, 224, 224, device="meta")
    operations = tensors.flops(lambda: network(patch))

    assert network(patch).shape == (1, network.out_features)
    assert sum(weight.numel() for weight in network.parameters()) == 25_557_032 - 2049 * 1000  # less the classifier's
    assert operations / 2 == pytest.approx(4.089e9 - 2048 * 1000, rel=1e-3)  # both as torchvision counts them


def test_turns_drop_out_but_not_before_the_third_round(bench):
    timing = bench("bench.timing")
    order = []
    slow, quick = (lambda: order.append("slow")), (lambda: order.append("quick"))
    slow_times, quick_times = timing.turns([slow, quick], 0.0)

    assert len(slow_times) == len(quick_times) == timing.FEWEST
    assert order == ["slow", "quick"] * (1 + timing.FEWEST)
    assert timing.turns([], 1.0) == []


@pytest.mark.parametrize("model", ["ZoomIn", "AttentionSampling"])
def test_parts_of_a_step_add_up_to_the_whole(bench, networks, model, tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    bench_step = bench("bench.models.bench_step")
    work = bench_step.Work(networks.LeNet, 2, 96, 0.25, 0.5, 3, 16, 32)
    subject = networks.Subject(bench_step.network(model, work).train(), [torch.empty(0)] * work.batch)
    before = [parameter.clone() for parameter in subject.network.parameters()]
    parts = bench_step.step(subject, work, bench_step.pictures(work, tmp_path), CPU)
    whole = parts.pop("whole")

    drawing = {"draw", "gather"} if model == "ZoomIn" else {"draw and gather"}
    assert parts.keys() == {"decode", "view", "attention", "features", "backward", "optimiser", "rest", *drawing}
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(whole)
    after = list(subject.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(parameter.grad is None for parameter in after)

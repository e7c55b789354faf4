"""A whole step in one CUDA graph: every replay sees other images, draws anew, and equals the step without a graph."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoomkern
from zoomkern import ImageBank, PinnedImage
from zoomkern.models import ZoomIn
from zoomkern.nn import LeNet

from .device import each_backend

BATCH, DRAWS, PATCH, IMAGES = 3, 8, 28, 6


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def captured(step: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A graph of the step and its results, after a few steps that leave behind what stays."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    return graph, results


def bank_of(pinned: bool) -> ImageBank:
    """Images of several sizes, on the device or page-locked."""
    images = [torch.randint(0, 256, (3, 200 + 40 * i, 300), dtype=torch.uint8) for i in range(IMAGES)]
    return ImageBank([PinnedImage(i) if pinned else i.cuda() for i in images], "cuda")


class Step:
    """One stage: attention over a view, a draw from a bank, features, loss, backward pass and optimiser."""

    def __init__(self, bank: ImageBank, backend: str, seeded: bool) -> None:
        self.bank, self.backend = bank, backend
        self.views = torch.rand(IMAGES, 48, device="cuda")
        features = LeNet()
        head = nn.Linear(features.out_features, 2)
        self.network = nn.ModuleDict({"attention": nn.Linear(48, 30), "features": features, "head": head})
        self.network.cuda()
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1)
        self.ids = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        self.labels = torch.tensor([0, 1, 1], device="cuda")
        self.seeds = torch.arange(BATCH, device="cuda") if seeded else None

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network["attention"](self.views[self.ids]).view(BATCH, 5, 6)
        read = {"mean": 0.5, "std": 0.25, "seed": self.seeds, "backend": self.backend}
        drawn = zoomkern.sample_patches(self.bank[self.ids], logits, DRAWS, PATCH, **read)
        features = self.network["features"](drawn.patches.flatten(0, 1)).unflatten(0, drawn.index.shape)
        pooled = zoomkern.expectation(features, drawn.sample, backend=self.backend)
        loss = F.cross_entropy(self.network["head"](pooled), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), drawn.index, drawn.patches.detach()

    def twin(self) -> Step:
        """The same step, over networks and an optimiser of its own."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network)
        other.optimizer = torch.optim.SGD(other.network.parameters(), 0.1)
        other.ids, other.seeds = self.ids.clone(), None if self.seeds is None else self.seeds.clone()
        return other


@each_backend
@pytest.mark.parametrize("pinned", [False, True], ids=["device", "pinned"])
def test_a_captured_training_step_is_the_step_without_a_graph(pinned: bool, backend: str) -> None:
    step = Step(bank_of(pinned), backend, seeded=True)
    graph, (loss, index, patches) = captured(step)
    twin = step.twin()
    seen = set()
    for turn, ids in enumerate([[0, 1, 2], [5, 5, 0], [3, 4, 1], [2, 0, 5]]):
        for one in (step, twin):
            one.ids.copy_(torch.tensor(ids))
            one.seeds.copy_(torch.tensor([turn, -turn, 10 + turn]))
        twin.network.load_state_dict(step.network.state_dict())
        graph.replay()
        wanted = twin()
        assert torch.equal(index, wanted[1])
        assert torch.equal(patches, wanted[2])
        torch.testing.assert_close(loss, wanted[0])
        for given, known in zip(step.network.parameters(), twin.network.parameters(), strict=True):
            torch.testing.assert_close(given, known)
        seen.add(tuple(index.flatten().tolist()))
    assert len(seen) == 4


@each_backend
def test_every_replay_draws_anew_and_manual_seed_repeats_it(backend: str) -> None:
    step = Step(bank_of(False), backend, seeded=False)
    graph, (_, index, _) = captured(step)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        for _ in range(3):
            step.network["attention"].bias.data.zero_()
            step.network["attention"].weight.data.zero_()  # so that the seed alone decides
            graph.replay()
            drawn.append(tuple(index.flatten().tolist()))
    assert len(set(drawn)) == 3
    assert drawn[:3] == drawn[3:]


@each_backend
def test_a_replay_reads_what_was_written_to_a_pinned_image_since(backend: str) -> None:
    image = PinnedImage.empty((3, 64, 64), torch.uint8)
    places = torch.zeros(1, 1, 2, dtype=torch.int64, device="cuda")
    view = image.cuda_view()
    graph, patches = captured(lambda: zoomkern.gather_patches([view], places, 8, backend=backend))
    for value in (3, 200):
        image.fence()
        image.tensor.fill_(value)
        graph.replay()
        assert bool((patches == value).all())


@each_backend
def test_a_compiled_step_runs_in_cuda_graphs(backend: str) -> None:
    from torch._dynamo.utils import counters
    from torch._inductor import cudagraph_trees

    bank = bank_of(True)

    def step(ids: Tensor, logits: Tensor, head: Tensor, seeds: Tensor | None) -> tuple[Tensor, Tensor]:
        read = {"mean": 0.5, "std": 0.25, "seed": seeds, "backend": backend}
        drawn = zoomkern.sample_patches(bank[ids], logits, DRAWS, 8, **read)
        pooled = zoomkern.expectation(drawn.patches.flatten(2) @ head, drawn.sample, backend=backend)
        return pooled.square().sum(), drawn.index

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(step, mode="reduce-overhead", fullgraph=True)
    logits = torch.randn(BATCH, 5, 6, device="cuda", requires_grad=True)
    head = torch.randn(192, 10, device="cuda", requires_grad=True)
    for turn in range(6):
        ids = torch.tensor([turn % IMAGES, 0, 5], device="cuda")
        seeds = torch.tensor([turn, turn + 1, -turn], device="cuda")
        results = []
        for run in (step, compiled):
            torch.compiler.cudagraph_mark_step_begin()
            loss, index = run(ids, logits, head, seeds)
            results.append([loss.detach().clone(), index.clone(), *torch.autograd.grad(loss, (logits, head))])
        for wanted, given in zip(*results, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(results[0][1], results[1][1])
    anew = set()
    with torch.no_grad():
        for _ in range(4):
            torch.compiler.cudagraph_mark_step_begin()
            _, index = compiled(ids, torch.zeros_like(logits), head, None)
            anew.add(tuple(index.flatten().tolist()))
    assert len(anew) == 4
    assert counters["inductor"]["cudagraph_skips"] == 0
    manager = cudagraph_trees.get_container(torch.cuda.current_device()).tree_manager
    assert manager is not None
    assert manager.new_graph_id().id > 0  # graphs were recorded


COMPILED_FIRST = """
import sys, torch, zoomkern
backend = sys.argv[1]
images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, device="cuda")

@torch.compile(mode="reduce-overhead", fullgraph=True)
def step(logits, seed):
    return zoomkern.sample_patches(images, logits, 3, 8, seed=seed, backend=backend).index

logits = torch.randn(2, 5, 5, device="cuda")
for turn in range(5):
    torch.compiler.cudagraph_mark_step_begin()
    seed = torch.tensor([turn, -turn], device="cuda")
    index = step(logits, seed).clone()
    assert torch.equal(index, zoomkern.sample(logits, 3, seed=seed, backend="reference").index), turn
print("equal")
"""


@each_backend
def test_the_first_call_of_a_process_may_be_a_compiled_one(backend: str) -> None:
    paths = {"PYTHONPATH": str(Path(zoomkern.__file__).parents[1])}
    words = [sys.executable, "-c", COMPILED_FIRST, backend]
    done = subprocess.run(words, env={**os.environ, **paths}, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


class ZoomStep:
    """A whole training step of the two-stage network, from banks at both scales."""

    def __init__(self, backend: str) -> None:
        images = [torch.randint(0, 256, (3, 500, 500), dtype=torch.uint8) for _ in range(IMAGES)]
        small = [F.interpolate(i[None].float(), (100, 100), mode="area")[0].to(torch.uint8) for i in images]
        self.images = ImageBank([PinnedImage(i) for i in images], "cuda")
        self.tiles = ImageBank([i.cuda() for i in small], "cuda")
        self.views = torch.rand(IMAGES, 3, 50, 50, device="cuda")
        reading = {"mean": 0.5, "std": 0.25, "backend": backend}
        with torch.device("cuda"):
            self.model = ZoomIn(
                2, DRAWS, (27, 27), (100, 100), tile_scale=0.2, in_channels=3, features=LeNet(), **reading
            )
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, capturable=True)
        self.ids = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        self.seeds: Tensor | None = torch.arange(BATCH, device="cuda")
        self.labels = torch.tensor([0, 1, 1], device="cuda")

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        seen = (self.images[self.ids], self.views[self.ids], self.tiles[self.ids])
        out = self.model(*seen, seed=self.seeds)
        loss = F.cross_entropy(out.scores, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), out.sampled.index, out.sampled.patches.detach()


@each_backend
def test_the_whole_two_stage_step_fits_in_one_graph(backend: str) -> None:
    step = ZoomStep(backend)
    graph, (loss, index, patches) = captured(step)
    twin = copy.copy(step)
    twin.model = copy.deepcopy(step.model)
    twin.optimizer = torch.optim.Adam(twin.model.parameters(), 1e-3, capturable=True)
    seen = set()
    for turn, ids in enumerate([[0, 1, 2], [5, 5, 0], [3, 4, 1]]):
        step.ids.copy_(torch.tensor(ids))
        assert step.seeds is not None
        step.seeds.copy_(torch.tensor([turn, 100 - turn, 1 << 40]))
        twin.model.load_state_dict(step.model.state_dict())
        wanted = twin()
        graph.replay()
        assert torch.equal(index, wanted[1])
        assert torch.equal(patches, wanted[2])
        torch.testing.assert_close(loss, wanted[0], rtol=1e-4, atol=1e-5)
        seen.add(tuple(index.flatten().tolist()))
    assert len(seen) == 3


@each_backend
def test_replays_of_the_two_stage_step_draw_anew_without_a_seed(backend: str) -> None:
    step = ZoomStep(backend)
    step.seeds = None
    graph, (_, index, _) = captured(step)
    seen = set()
    for _ in range(4):
        graph.replay()
        seen.add(tuple(index.flatten().tolist()))
    assert len(seen) == 4

"""Where a whole training step spends its time: decode, view, draw, gather, features, backward, optimiser.

A stopwatch stands at the public functions that a network calls and at its parts, so each part's time includes its
checks. ``AttentionSampling`` draws and gathers in one op. Each round decodes its images and makes their views, as the
first epoch does; later ones find both in memory where the set is resident.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import networks, timing
from bench.networks import READING
from bench.timing import Stopwatch
from zoomkern import PinnedImage
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.models import AttentionSampling
from zoomkern.nn import LeNet

DRAWING = {"sample": "draw", "gather_patches": "gather", "sample_patches": "draw and gather"}
MODULES = {"attention": "attention", "tile_attention": "attention", "features": "features"}


class Work(NamedTuple):
    """Shapes of a step; scales, draws and sizes as in :class:`bench.networks.Case`."""

    features: type[nn.Module]
    batch: int
    size: int
    view_scale: float
    tile_scale: float
    draws: int
    patch: int
    tile: int

    @property
    def text(self) -> str:
        return (
            f"{self.batch} JPEG{'s' * (self.batch > 1)} of {self.size} x {self.size}, s1 = {self.view_scale:g}, "
            f"s2 = {self.tile_scale:g}, N = {self.draws}, {self.patch} x {self.patch}, tiles of {self.tile}"
        )


WORKS = {
    "LeNet": Work(LeNet, 10, 500, 0.1, 0.2, 10, 27, 250),
    "ResNet-50": Work(networks.ResNet50, 1, 4096, 0.03125, 0.125, 10, 224, 1024),
}
MODELS = ("ZoomIn", "AttentionSampling")


def network(model: str, work: Work) -> Any:
    if model == "ZoomIn":
        return networks.two_stage(work.draws, work.patch, work.tile, work.tile_scale, work.features())
    features = work.features()
    patch = (work.patch, work.patch)
    return AttentionSampling(networks.CLASSES, work.draws, patch, in_channels=3, features=features, **READING)


@contextmanager
def watched(model: Any, watch: Stopwatch) -> Iterator[None]:
    """The stopwatch at the functions and parts of ``model``."""
    room = sys.modules[type(model).__module__]
    places = [(room, name, part) for name, part in DRAWING.items() if hasattr(room, name)]
    places += [(getattr(model, name), "forward", part) for name, part in MODULES.items() if hasattr(model, name)]
    with ExitStack() as stack:
        for owner, name, part in places:
            stack.enter_context(mock.patch.object(owner, name, watch.timed(part, getattr(owner, name))))
        yield


def step(subject: networks.Subject, work: Work, paths: list[Any], device: torch.device) -> dict[str, float]:
    """Seconds of each part of one step, and of the ``whole``."""
    watch, model = Stopwatch(), subject.network
    with watch.part("whole"):
        with watch.part("decode"):
            images = [PinnedImage.from_file(path).tensor.to(device) for path in paths]
        with watch.part("view"):
            first, second = (scaled_size((work.size, work.size), s) for s in (work.view_scale, work.tile_scale))
            two = "tile_view" in model.inputs
            views = [scaled(image, first if two else second) for image in images]
            tile_views = [scaled(image, second) for image in images] if two else []
            given = {"images": images, "view": networks.read_views(views), "tile_view": tile_views}
        with watched(model, watch):
            scores = model(*(given[name] for name in model.inputs), seed=0).scores
        loss = F.cross_entropy(scores, subject.labels)
        with watch.part("backward"):
            loss.backward()
        with watch.part("optimiser"):
            subject.optimizer.step()
            subject.optimizer.zero_grad()
    whole = watch.seconds["whole"]
    return {**watch.seconds, "rest": 2 * whole - sum(watch.seconds.values())}  # the whole is among the summands


def pictures(work: Work, folder: Any) -> list[Any]:
    """Smooth pictures in files, for noise would be slower to decode than anything that one photographs."""
    from PIL import Image

    paths = []
    for number in range(work.batch):
        coarse = torch.rand(1, 3, work.size // 8, work.size // 8)
        pixels = F.interpolate(coarse, (work.size, work.size), mode="bicubic").clamp_(0, 1).mul_(255).byte()
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy()).save(paths[-1], quality=90)
    return paths


def measure(work: Work, model: str, paths: list[Any], device: torch.device, seconds: float) -> dict[str, Any]:
    """Median of the whole and of each part; a first step leaves behind what stays."""
    with torch.device(device):
        built = network(model, work).train()
    subject = networks.Subject(built, [torch.empty(0)] * work.batch)
    cost = step(subject, work, paths, device)["whole"]
    rounds = max(timing.FEWEST, min(timing.ROUNDS[1], int(seconds / cost)))
    found = [step(subject, work, paths, device) for _ in range(rounds)]
    parts = {name: median(one[name] for one in found) for name in found[0] if name != "whole"}
    return {"time": timing.summary([one["whole"] for one in found]), "parts": parts}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("features", WORKS)
def test_step(request, benchmark, put, device, tmp_path, features, model):
    pytest.importorskip("PIL", reason="needs Pillow, to write JPEGs: pip install pillow")
    work = WORKS[features]
    given = (work, model, pictures(work, tmp_path), device, request.config.getoption("--bench-seconds"))
    row = benchmark.pedantic(measure, args=given, rounds=1)
    put(device.type, name=f"{model}, {features}", work=work.text, **row)

"""Whole networks on a GPU: what they draw, say and learn is what they do on a processor, and no step waits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.models.makers import MAKERS, pixels
from zoomkern.images import PinnedImage
from zoomkern.models import ZoomIn

from .device import DEVICE, moved, nothing_waits

SEEDS = [5, -7, 1 << 40]
ON_GPU = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")


def made(name: str, **reading: Any) -> nn.Module:
    torch.manual_seed(1)
    model: nn.Module = MAKERS[name](**reading)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.5)
    return model


def learned(model: nn.Module, given: list[Any], seeds: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Scores, and those of the complement where the network has one, then the gradients of all parameters."""
    scores = [model(*given, seed=seeds).scores]
    if model.training and isinstance(model, ZoomIn):
        scores.append(model.contrast(*given, seed=seeds).scores)
    sum((part.exp().sum() for part in scores), torch.zeros((), device=seeds.device)).backward()
    return scores, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_says_and_learns_what_it_does_on_a_processor(name: str) -> None:
    """In float64, where no logit lies so close to another that the draws could differ.

    A convolution of n terms on one device and on the other differs by n ulp at most; these have up to 144 terms, a few
    layers and 30 draws in a sum, and 1e-9 is 10^4 times as much as all of that.
    """
    model = made(name, dtype=torch.float64).double()
    other = made(name, dtype=torch.float64).double().to(DEVICE)
    given = [part.double() if part.is_floating_point() else part for part in pixels(model)]
    scores, gradients = learned(model, given, torch.tensor(SEEDS))
    there, gradients_there = learned(other, [moved(part) for part in given], torch.tensor(SEEDS, device=DEVICE))
    assert {part.device.type for part in (*there, *gradients_there)} == {DEVICE.type}
    assert any(gradient.count_nonzero() for gradient in gradients)
    torch.testing.assert_close([part.cpu() for part in there], scores, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close([part.cpu() for part in gradients_there], gradients, rtol=1e-9, atol=1e-9)


@ON_GPU
@pytest.mark.parametrize("pinned", [False, True], ids=["on the GPU", "page-locked"])
@pytest.mark.parametrize("name", MAKERS)
def test_no_step_of_a_network_waits(name: str, pinned: bool) -> None:
    """Neither forward nor backward nor the optimiser; the images may stay in host memory."""
    model = made(name).to(DEVICE)
    images, *rest = (moved(part) for part in pixels(model))
    images = [PinnedImage(image.cpu()) for image in images] if pinned else images
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    seeds = torch.tensor(SEEDS, device=DEVICE)

    def step() -> None:
        optimizer.zero_grad()
        learned(model, [images, *rest], seeds)
        optimizer.step()

    step()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with nothing_waits():
        step()
    assert not model.training or any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@ON_GPU
def test_half_precision_learns() -> None:
    model = made("zoom-in").to(DEVICE)
    given = [moved(part) for part in pixels(model)]
    with torch.autocast("cuda", torch.bfloat16):
        scores, gradients = learned(model, given, torch.tensor(SEEDS, device=DEVICE))
    assert all(part.isfinite().all() for part in (*scores, *gradients))
    assert any(gradient.count_nonzero() for gradient in gradients)

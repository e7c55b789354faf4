"""Networks that look at images which stay on disk conclude what they conclude of the same images in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoomkern.images import Pyramid
from zoomkern.images.scaling import scaled
from zoomkern.models import AttentionSampling, ZoomIn

SIZE = (400, 600)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stored")
    noise = np.random.default_rng(2)
    found = [folder / f"{name}.npy" for name in "ab"]
    for path in found:
        np.save(path, noise.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return found


@pytest.fixture(scope="module")
def pyramids(paths: list[Path]) -> tuple[list[Pyramid], list[Pyramid]]:
    """The same images in memory and on disk."""
    return [Pyramid.open(path) for path in paths], [Pyramid.open(path, where="disk") for path in paths]


def views(images: list[Pyramid]) -> torch.Tensor:
    return torch.stack([scaled(image, (2, 3)) for image in images]).float() / 255


def zoom_in(**options: object) -> ZoomIn:
    torch.manual_seed(0)
    return ZoomIn(2, 6, (20, 24), (64, 64), tile_scale=0.25, in_channels=3, mean=0.5, std=0.5, **options)


@pytest.mark.parametrize("options", [{}, {"tiles": "gumbel", "num_tiles": 3, "padding_mode": "shift"}])
def test_two_stages(pyramids, options):
    resident, stored = pyramids
    model = zoom_in(**options)
    results = []
    for images in (resident, stored):
        out = model(images, views(images), [image.at_scale(0.25) for image in images], seed=5)
        model.zero_grad()
        out.scores.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        results.append((out.scores, out.sampled.patches, out.tiles.patches, *gradients))
        model.load_state_dict(zoom_in(**options).state_dict())
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_two_stages_exactly(pyramids):
    resident, stored = pyramids
    model = zoom_in().eval()
    with torch.no_grad():
        one, other = (
            model.exact(images, views(images), [image.at_scale(0.25) for image in images]).scores
            for images in (resident, stored)
        )
    assert torch.equal(one, other)


def test_one_stage(pyramids):
    resident, stored = pyramids
    torch.manual_seed(0)
    model = AttentionSampling(2, 5, (20, 24), in_channels=3, mean=0.5, std=0.5).eval()
    with torch.no_grad():
        one, other = (model(images, views(images), seed=1).scores for images in (resident, stored))
    assert torch.equal(one, other)


def test_a_tile_view_of_another_scale_is_refused(pyramids):
    _, stored = pyramids
    with pytest.raises(ValueError, match="tile_view must be the images at tile_scale = 0.25, 100 x 150 pixels"):
        zoom_in()(stored, views(stored), [image.at_scale(0.5) for image in stored])

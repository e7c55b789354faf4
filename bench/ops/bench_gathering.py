"""``zoomkern.gather_patches``: given places, so every result can be compared pixel by pixel."""

from __future__ import annotations

import pytest
import torch

import zoomkern
from bench import baselines, floor, workloads
from bench.timing import Rival
from bench.workloads import MEAN, STD

TURNS = 8
WORKS = {"4x64x128": (4, 64, 128), "1x256x224": (1, 256, 224)}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("fresh", [False, True], ids=["out", "fresh"])
def test_gather(record, pictures, work, fresh):
    batch, draws, patch = WORKS[work]
    images, size = pictures[:batch], pictures[0].shape[1]
    places = [workloads.places(batch, draws, size, patch) for _ in range(TURNS)]
    turn = workloads.rotate(places)
    reader = workloads.rotate([floor.patch_reader(images, at, patch) for at in places])
    out = torch.empty(batch, draws, 3, patch, patch)
    target = None if fresh else out

    def ours(at=None):
        at = turn() if at is None else at
        return zoomkern.gather_patches(images, at, patch, mean=MEAN, std=STD, out=target)

    def least():
        reader()()
        return floor.fill_fresh(out.shape) if fresh else out.fill_(1.0)

    goal = None if fresh else 15
    at = places[0]
    given = ours(at).clone()
    assert torch.equal(given, baselines.formula(images, at, patch))
    for rival in (baselines.slice_stack, baselines.unfold_index, baselines.slice_into):
        torch.testing.assert_close(rival(images, at, patch), given, rtol=0, atol=2e-6)
    record(
        f"{'fresh' if fresh else 'out'}-{work}",
        f"B = {batch} of {size} x {size} x 3 uint8, N = {draws}, {patch} x {patch}, "
        + ("a new tensor" if fresh else "out="),
        ours,
        [
            Rival("slice, stack, normalise", lambda: baselines.slice_stack(images, turn(), patch), goal),
            Rival("unfold and index", lambda: baselines.unfold_index(images, turn(), patch)),
            Rival("multiply slices in place", lambda: baselines.slice_into(images, turn(), patch, target)),
            Rival("floor: fill + read", least),
        ],
        bytes_moved=out.nbytes + out.numel(),
        share_of="fill",
    )


def test_roi_align(record):
    """Its images must be float; that conversion is not on its clock."""
    batch, draws, patch, size = 1, 64, 128, 4096
    images = workloads.pictures(batch, size)
    turn = workloads.rotate([workloads.places(batch, draws, size, patch) for _ in range(TURNS)])
    out = torch.empty(batch, draws, 3, patch, patch)

    def ours(at=None):
        return zoomkern.gather_patches(images, turn() if at is None else at, patch, mean=MEAN, std=STD, out=out)

    function, missing = baselines.roi_align()
    run = None
    if function:
        floats = torch.stack(images).float()

        def run(at=None):
            return baselines.roi_align_patches(function, floats, turn() if at is None else at, patch)

        at = turn()
        torch.testing.assert_close(run(at), ours(at), rtol=0, atol=2e-6)
    record(
        "roi-align",
        f"B = {batch} of {size} x {size} x 3 uint8 (for roi_align float32), N = {draws}, {patch} x {patch}, out=",
        ours,
        [Rival("torchvision roi_align", run, missing=missing)],
        bytes_moved=out.nbytes + out.numel(),
        share_of="fill",
    )


def test_backward_to_images(record):
    batch, draws, patch, size = 2, 64, 64, 1024
    images = torch.rand(batch, 3, size, size, requires_grad=True)
    at, grad = workloads.places(batch, draws, size, patch), torch.randn(batch, draws, 3, patch, patch)

    def ours():
        return torch.autograd.grad(zoomkern.gather_patches(images, at, patch), images, grad)[0]

    span = torch.arange(patch)
    y, x = at[..., :1] + span, at[..., 1:] + span  # [B, N, P]
    rows = torch.arange(batch)[:, None, None, None]

    def indexing():
        patches = images[rows, :, y[..., :, None], x[..., None, :]].movedim(-1, 2)
        return torch.autograd.grad(patches, images, grad)[0]

    torch.testing.assert_close(ours(), indexing(), rtol=1e-5, atol=1e-5)
    record(
        "backward",
        f"with the gradient of the images, B = {batch} of 3 x {size} x {size} float32, N = {draws}, {patch} x {patch}",
        ours,
        [Rival("advanced indexing", indexing)],
        bytes_moved=3 * grad.nbytes + images.nbytes,
    )

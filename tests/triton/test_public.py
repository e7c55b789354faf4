"""Triton's kernels behind the public functions."""

import pytest
import torch

import zoomkern
from zoomkern.ops import backends

on, why = backends.explain()["triton"]
pytestmark = pytest.mark.skipif(not on, reason=why)


@pytest.fixture
def inputs(device):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 40, 50, generator=generator).to(device)
    logits = torch.randn(2, 4, 5, generator=generator).to(device)
    return images, logits


def step(images, logits, backend):
    """Pooled features of drawn patches, and the gradients towards both arguments."""
    images, logits = images.clone().requires_grad_(), logits.clone().requires_grad_()
    drawn = zoomkern.sample_patches(images, logits, 5, (9, 8), mean=0.5, std=0.25, seed=7, backend=backend)
    pooled = zoomkern.expectation(drawn.patches.flatten(2).tanh(), drawn.sample, backend=backend)
    pooled.square().sum().backward()
    return drawn, pooled, images.grad, logits.grad


def test_a_training_step_is_that_of_the_reference(inputs):
    mine, pooled, grad_images, grad_logits = step(*inputs, "triton")
    drawn, expected, reference_images, reference_logits = step(*inputs, "reference")

    assert torch.equal(mine.index, drawn.index)
    assert torch.equal(mine.offsets, drawn.offsets)
    assert torch.equal(mine.patches, drawn.patches)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(grad_images, reference_images)
    torch.testing.assert_close(grad_logits, reference_logits)


def test_weights_of_a_draw_that_is_given_are_those_of_the_draw(inputs):
    drawn = zoomkern.sample(inputs[1], 6, seed=1, backend="triton")

    given = zoomkern.draw_weights(inputs[1], drawn.index, backend="triton")

    torch.testing.assert_close(given, drawn)


def test_a_given_tensor_is_written(inputs):
    images, logits = inputs
    offsets = torch.tensor([[[0, 0], [39, 49]], [[-3, 7], [12, 2]]], device=images.device)
    out = torch.full((2, 2, 3, 8, 8), torch.nan, device=images.device)

    given = zoomkern.gather_patches(images, offsets, 8, out=out, backend="triton")

    assert given is out
    assert torch.equal(out, zoomkern.gather_patches(images, offsets, 8, backend="reference"))


def test_a_bank_is_read(device):
    images = [torch.randint(0, 256, (3, 30 + i, 20), dtype=torch.uint8).to(device) for i in range(3)]
    batch = zoomkern.ImageBank(images)[[2, 0]]
    offsets = torch.tensor([[[3, 4]], [[25, -2]]], device=device)

    given = zoomkern.gather_patches(batch, offsets, (7, 6), backend="triton")

    assert torch.equal(given, zoomkern.gather_patches([images[2], images[0]], offsets, (7, 6), backend="reference"))


def test_torch_compile_sees_the_ops(inputs):
    def call(images, logits):
        drawn = zoomkern.sample_patches(images, logits, 3, 8, seed=5, backend="triton")
        return zoomkern.expectation(drawn.patches.flatten(2), drawn.sample, backend="triton")

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(compiled(*inputs), call(*inputs))


def test_wrong_logits_are_an_error(inputs, monkeypatch):
    monkeypatch.setenv("ZOOMKERN_CHECK", "1")
    images, logits = inputs
    logits[1, 2, 2] = torch.nan

    with pytest.raises(ValueError, match="got nan in row 1, item 12"):
        zoomkern.sample(logits, 3, seed=1, backend="triton")

"""Attention networks."""

import pytest
import torch

from zoomkern.nn import AttentionNetwork
from zoomkern.nn.attention import local_contrast


@pytest.mark.parametrize(
    ("size", "pool", "grid"), [((64, 64), 1, (64, 64)), ((17, 40), 1, (17, 40)), ((33, 20), 4, (8, 5))]
)
def test_the_grid_has_the_view_size_divided_by_the_pool(size, pool, grid):
    network = AttentionNetwork(3, (4,), pool=pool, contrast=1.0)
    assert network(torch.rand(2, 3, *size)).shape == (2, *grid)


def test_training_starts_from_uniform_attention():
    logits = AttentionNetwork(1)(torch.rand(3, 1, 9, 11))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_the_uniform_start_can_be_left():
    network = AttentionNetwork(1)
    network(torch.rand(2, 1, 8, 8))[:, 3, 3].sum().backward()
    assert network.score.weight.grad.abs().max() > 0


def test_with_contrast_attention_starts_on_the_spot_that_stands_out():
    view = torch.full((1, 1, 20, 20), 0.3)
    view[0, 0, 12, 5] = 0.9
    network = AttentionNetwork(1, contrast=2.0)
    attention = network(view).flatten().softmax(0)
    assert int(attention.argmax()) == 12 * 20 + 5
    assert attention.max() > 0.5
    network(view)[0, 12, 5].backward()
    assert network.contrast.grad is not None


@pytest.mark.parametrize("change", [lambda v: v * 7, lambda v: v + 5], ids=["scale", "shift"])
def test_attention_from_contrast_does_not_see_the_scale_and_shift_of_the_view(change):
    view = torch.rand(2, 1, 12, 12, dtype=torch.float64)
    before = local_contrast(view).flatten(1).softmax(1)
    torch.testing.assert_close(local_contrast(change(view)).flatten(1).softmax(1), before)


def test_a_flat_view_has_finite_contrast():
    assert local_contrast(torch.ones(1, 3, 6, 6)).isfinite().all()


def test_each_image_is_scored_alone():
    network = AttentionNetwork(1, contrast=1.0)
    torch.nn.init.normal_(network.score.weight)
    view = torch.rand(3, 1, 10, 10)
    torch.testing.assert_close(network(view)[1:2], network(view[1:2]))


@pytest.mark.parametrize(("arguments", "name"), [({"kernel_size": 4}, "kernel_size"), ({"pool": 0}, "pool")])
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        AttentionNetwork(1, **arguments)

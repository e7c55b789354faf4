"""Attention networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoomkern.nn import AttentionNetwork
from zoomkern.nn.attention import local_contrast

PUBLISHED = {"activation": "relu", "score_kernel_size": 3, "padding_mode": "zeros"}


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


def test_the_default_network_is_the_one_it_was():
    torch.manual_seed(3)
    layers = [layer for width in (3, 8) for layer in (nn.Conv2d(width, 8, 3), nn.Tanh())]
    score = nn.Conv2d(8, 1, 1, bias=False)
    after = torch.rand(1)
    torch.manual_seed(3)
    network = AttentionNetwork(3, pool=2)
    assert torch.equal(torch.rand(1), after)
    assert {name: part.shape for name, part in network.state_dict().items()} == {
        "hidden.0.weight": (8, 3, 3, 3),
        "hidden.0.bias": (8,),
        "hidden.2.weight": (8, 8, 3, 3),
        "hidden.2.bias": (8,),
        "score.weight": (1, 8, 1, 1),
    }
    nn.init.normal_(network.score.weight)
    score.weight = network.score.weight
    view = torch.rand(2, 3, 12, 14)
    wanted = view
    for layer in layers:
        wanted = layer(F.pad(wanted, (1,) * 4, mode="replicate")) if isinstance(layer, nn.Conv2d) else layer(wanted)
    assert torch.equal(network(view), score(F.max_pool2d(wanted, 2)).squeeze(1))


@pytest.mark.parametrize("pool", [1, 6])
def test_the_published_networks_are_their_layers(pool):
    network = AttentionNetwork(3, **PUBLISHED, pool=pool, pooling="mean")
    kinds = [type(layer) for layer in network.hidden]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU]
    convolutions = [network.hidden[0], network.hidden[2], network.score]
    assert [layer.weight.shape for layer in convolutions] == [(8, 3, 3, 3), (8, 8, 3, 3), (1, 8, 3, 3)]
    view = torch.rand(2, 3, 12, 18)
    logits = network(view)
    assert torch.equal(logits, torch.zeros(2, 12 // pool, 18 // pool))
    logits[0, 0, 0].backward()
    assert network.score.weight.grad.abs().max() > 0
    nn.init.normal_(network.score.weight)
    first, second, last = convolutions
    wanted = F.relu(F.conv2d(view, first.weight, first.bias, padding=1))
    wanted = F.relu(F.conv2d(wanted, second.weight, second.bias, padding=1))
    wanted = F.avg_pool2d(F.conv2d(wanted, last.weight, padding=1), pool).squeeze(1)
    torch.testing.assert_close(network(view), wanted)


def test_a_larger_last_kernel_sees_replicated_borders():
    network = AttentionNetwork(1, (), score_kernel_size=3)
    nn.init.ones_(network.score.weight)
    torch.testing.assert_close(network(torch.ones(1, 1, 4, 5)), torch.full((1, 4, 5), 9.0))


def test_contrast_is_averaged_where_scores_are():
    view = torch.rand(2, 1, 8, 8)
    wanted = F.avg_pool2d(local_contrast(view), 4)
    torch.testing.assert_close(AttentionNetwork(1, pool=4, pooling="mean", contrast=1.0)(view), wanted)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_an_empty_batch_has_no_scores_with_contrast_either(pooling):
    network = AttentionNetwork(1, pool=2, pooling=pooling, contrast=1.0)
    assert network(torch.rand(0, 1, 8, 6)).shape == (0, 4, 3)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_every_cell_sees_its_share_of_a_view_that_is_no_multiple_of_the_pool(pooling):
    """19 pixels in 3 cells of 6.33: each sees those that its share touches."""
    network = AttentionNetwork(1, (), pool=5, pooling=pooling)
    nn.init.ones_(network.score.weight)
    view = torch.zeros(1, 1, 19, 5, requires_grad=True)
    for cell, (first, last) in enumerate([(0, 6), (6, 12), (12, 19)]):
        with torch.no_grad():
            view.zero_()
            view += 1e-3 * torch.rand(19, 1)
        (gradient,) = torch.autograd.grad(network(view)[0, cell, 0], view)
        seen = gradient[0, 0].abs().sum(1).nonzero().flatten()
        assert first <= seen.min() <= seen.max() <= last
        if pooling == "mean":
            assert (int(seen.min()), int(seen.max())) == (first, min(last, 18))


def test_attention_lies_where_its_patch_is_read():
    from zoomkern.models import AttentionSampling

    for side in (100, 109):
        images = torch.zeros(1, 1, 10 * side, 10 * side)
        images[..., 945:965, 945:965] = 1
        network = AttentionNetwork(1, pool=10, contrast=3.0)
        model = AttentionSampling(2, 1, (100, 100), attention=network, in_channels=1, inference="topk").eval()
        assert model(images, F.avg_pool2d(images, 10)).sampled.patches.max() == 1


def test_sizes_that_leave_nothing_are_named():
    with pytest.raises(ValueError, match=r"view must have at least pool = 25 pixels each way; got \[1, 1, 30, 20\]"):
        AttentionNetwork(1, pool=25)(torch.rand(1, 1, 30, 20))
    with pytest.raises(ValueError, match="size must be odd and positive; got 4"):
        local_contrast(torch.rand(1, 1, 8, 8), 4)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"kernel_size": 4}, "kernel_size"),
        ({"pool": 0}, "pool"),
        ({"score_kernel_size": 2}, "score_kernel_size"),
        ({"activation": "gelu"}, "activation must be one of 'tanh', 'relu'; got 'gelu'"),
        ({"pooling": "sum"}, "pooling must be one of 'max', 'mean'; got 'sum'"),
        ({"padding_mode": "reflect"}, "padding_mode must be one of 'replicate', 'zeros'; got 'reflect'"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        AttentionNetwork(1, **arguments)

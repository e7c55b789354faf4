"""The residual feature network."""

import pytest
import torch
from torch import nn

from zoomkern.nn.resnet import ResNetFeatures, normalisation


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_shapes_and_gradients(norm, pool):
    network = ResNetFeatures(1, (8, 12), (1, 2), norm=norm, pool=pool)
    features = network(torch.rand(5, 1, 14, 19))
    assert features.shape == (5, network.out_features) == (5, 12)
    features.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_the_default_has_seven_convolutions_of_32_channels_before_the_classifier():
    convolutions = [part for part in ResNetFeatures().modules() if isinstance(part, nn.Conv2d)]
    assert {part.out_channels for part in convolutions} == {32}
    assert sum(part.kernel_size == (3, 3) for part in convolutions) == 7
    assert sum(part.kernel_size == (1, 1) for part in convolutions) == 2  # shortcuts where the map is halved


def test_every_stage_but_the_first_halves_the_map():
    assert ResNetFeatures(1, (4, 4, 4), (1, 1, 1)).layers(torch.rand(1, 1, 33, 20)).shape == (1, 4, 9, 5)


def test_features_may_have_unit_length():
    features = ResNetFeatures(1, (8,), (1,), normalise=True)(torch.rand(4, 1, 9, 9))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_a_patch_is_treated_alone_by_all_norms_but_the_batch_norm(norm):
    network, patches = ResNetFeatures(1, (8, 8), (1, 1), norm=norm), torch.rand(4, 1, 10, 10)
    torch.testing.assert_close(network(patches)[1:2], network(patches[1:2]))


def test_the_instance_norm_is_that_of_torch():
    x = torch.randn(3, 5, 7, 4)
    torch.testing.assert_close(normalisation("instance", 5)(x), nn.InstanceNorm2d(5)(x))


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (12, 4), (5, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert normalisation("group", channels).num_groups == groups


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_no_patches_give_no_features(norm):
    assert ResNetFeatures(1, norm=norm)(torch.zeros(0, 1, 16, 16)).shape == (0, 32)


def test_patches_of_which_instance_norms_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"patches must have more than 4 pixels one way.*got \[2, 1, 4, 4\]"):
        ResNetFeatures(1, norm="instance")(torch.rand(2, 1, 4, 4))
    assert ResNetFeatures(1, norm="group")(torch.rand(2, 1, 4, 4)).std(0).max() > 0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"channels": (4, 4), "blocks": (1,)}, "stages"),
        ({"channels": (), "blocks": ()}, "stages"),
        ({"blocks": (1, 0, 1)}, "blocks"),
        ({"norm": "layer"}, "norm .*'layer'"),
        ({"pool": "median"}, "pool .*'median'"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        ResNetFeatures(**arguments)

"""The LeNet of the published code."""

import pytest
import torch

from zoomkern.nn.lenet import LeNet


@pytest.mark.parametrize("size", [(16, 16), (27, 27), (32, 50)])
def test_features_are_48_nonnegative_numbers_of_unit_length(size):
    network = LeNet(1)
    features = network(torch.rand(5, 1, *size))
    assert features.shape == (5, network.out_features) == (5, 48)
    assert (features >= 0).all()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))


def test_without_normalisation_a_brighter_patch_has_larger_features():
    network = LeNet(3, normalise=False)
    patch = torch.rand(1, 3, 27, 27)
    torch.testing.assert_close(network(3 * patch), 3 * network(patch))


def test_the_layers_are_those_of_the_paper():
    assert [tuple(p.shape) for p in LeNet().parameters()] == [(36, 3, 5, 5), (36,), (48, 36, 5, 5), (48,)]


def test_batch_norm_stands_behind_each_convolution():
    network = LeNet(batch_norm=True)
    assert [len(p) for p in network.parameters()] == [36, 36, 36, 36, 48, 48, 48, 48]
    bright = 5 * torch.rand(8, 3, 27, 27) + 3
    torch.testing.assert_close(network(bright), network(2 * bright + 1), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_gradient_reaches_every_parameter(batch_norm):
    network = LeNet(batch_norm=batch_norm)
    network(torch.rand(4, 3, 27, 27))[:, ::2].sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_no_patches_give_no_features():
    assert LeNet()(torch.zeros(0, 3, 27, 27)).shape == (0, 48)


@pytest.mark.parametrize("size", [(15, 27), (27, 15)])
def test_patches_that_are_too_small_are_refused(size):
    with pytest.raises(ValueError, match=r"patches must have at least 16 x 16 .*FeatureNetwork"):
        LeNet()(torch.rand(2, 3, *size))

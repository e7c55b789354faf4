"""Networks say what is wrong with the pixels they are given."""

import pytest
import torch

from zoomkern.models import BagNet
from zoomkern.nn import AttentionNetwork, FeatureNetwork, LeNet, ResNetFeatures

NETWORKS = [
    AttentionNetwork(3),
    FeatureNetwork(3),
    LeNet(3),
    ResNetFeatures(3),
    BagNet(2, 33, channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1), in_channels=3),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_other_channels_are_named(network):
    with pytest.raises(ValueError, match=r"with C = 3 channels, in_channels of this network; got \[2, 1, 32, 32\]"):
        network(torch.rand(2, 1, 32, 32))


@pytest.mark.parametrize("network", NETWORKS[:-1], ids=lambda network: type(network).__name__)
def test_bytes_are_no_pixels_of_a_network(network):
    with pytest.raises(TypeError, match="must be floating point; got torch.uint8. Divide bytes by 255"):
        network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_channels_that_come_last_are_refused():
    with pytest.raises(ValueError, match=r"C = 3 channels.*got \[32, 32, 3\]"):
        AttentionNetwork(3)(torch.rand(32, 32, 3))

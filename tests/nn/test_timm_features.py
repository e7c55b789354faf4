"""Networks of timm."""

import sys

import pytest
import torch

from zoomkern.nn.timm_features import TimmFeatures


def test_the_absence_of_timm_is_answered_by_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'zoomkern\[timm\]'"):
        TimmFeatures("resnet18")


@pytest.mark.parametrize(("name", "channels"), [("resnet10t", 1), ("mobilenetv3_small_050", 3)])
def test_features_have_the_size_that_is_told(name, channels):
    pytest.importorskip("timm", reason="timm is not installed")
    network = TimmFeatures(name, in_channels=channels)
    features = network(torch.rand(2, channels, 64, 64))
    assert features.shape == (2, network.out_features)
    features.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_further_arguments_reach_timm():
    pytest.importorskip("timm", reason="timm is not installed")
    network = TimmFeatures("vit_tiny_patch16_224", img_size=32, depth=1)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, network.out_features)


def test_an_unknown_network_is_named():
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(ValueError, match=r"name .*'nonesuch'.*list_models"):
        TimmFeatures("nonesuch")

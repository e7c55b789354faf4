"""The plain rival."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoomkern.images import Pyramid
from zoomkern.models.dense import DenseNetwork
from zoomkern.nn.resnet import ResNetFeatures


class Mean(nn.Module):
    """The mean of the image, and what it was given."""

    out_features = 1

    def forward(self, images):
        self.given = images
        return images.mean((2, 3))


def test_the_default_is_the_eight_layer_network():
    model = DenseNetwork(5)
    assert isinstance(model.features, ResNetFeatures)
    out = model(torch.randint(256, (2, 3, 20, 26), dtype=torch.uint8))
    assert out.scores.shape == (2, 5)
    assert out.pooled.shape == (2, 32)
    torch.testing.assert_close(out.scores, model.classifier(out.pooled))


def test_pixels_are_converted_as_they_are_told():
    model = DenseNetwork(2, features=Mean(), mean=0.5, std=0.25)
    images = torch.randint(256, (2, 1, 6, 9), dtype=torch.uint8)
    model(images)
    torch.testing.assert_close(model.features.given, (images / 255 - 0.5) / 0.25, rtol=0, atol=1e-5)


def test_a_smaller_image_is_anti_aliased():
    model = DenseNetwork(2, features=Mean(), image_scale=0.25)
    checked = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(20, 30)[None, None]
    model(checked)
    assert model.features.given.shape == (1, 1, 10, 15)
    wanted = F.interpolate(checked, (10, 15), mode="bilinear", antialias=True)
    assert torch.equal(model.features.given, wanted)
    assert (model.features.given[..., 1:-1, 1:-1] - 0.5).abs().max() < 0.05  # one pixel in four would be 0 or 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_smaller_image_may_have_half_precision(dtype):
    image = torch.rand(1, 1, 16, 16)
    given = []
    for kind in (dtype, torch.float32):
        model = DenseNetwork(2, features=Mean(), image_scale=0.5, dtype=kind).to(kind)
        model(image)
        given.append(model.features.given)
    assert given[0].dtype == dtype
    torch.testing.assert_close(given[0].float(), given[1], rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_an_image_is_never_scaled_to_nothing():
    model = DenseNetwork(2, features=Mean(), image_scale=0.01)
    model(torch.rand(1, 1, 9, 400))
    assert model.features.given.shape == (1, 1, 1, 4)


@pytest.mark.parametrize("image_scale", [0.0, -0.5, 1.5, float("nan")])
def test_the_scale_must_be_a_share(image_scale):
    with pytest.raises(ValueError, match="image_scale"):
        DenseNetwork(2, image_scale=image_scale)


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="images must have one size"):
        DenseNetwork(2)([torch.rand(3, 16, 16), torch.rand(3, 16, 20)])


def test_a_level_of_the_pyramids_is_a_reading_argument():
    image = torch.rand(1, 16, 24)
    model = DenseNetwork(2, features=Mean(), level=1)
    model([Pyramid([image, image[:, ::2, ::2].contiguous()])])
    assert torch.equal(model.features.given[0], image[:, ::2, ::2])

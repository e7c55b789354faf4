"""The dense bag of local features."""

import pytest
import torch
from torch import nn

from zoomkern.models.bagnet import BagNet, choose_kernels

SMALL = {"channels": (8, 8, 8), "blocks": (2, 2, 1), "strides": (2, 2, 1), "in_channels": 1}


def without_norms(model):
    """The network with positive weights and no norm: every pixel that a feature can see raises it."""
    for part in model.layers.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(part, name, nn.Identity())
    for parameter in model.layers.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0)
    return model


def seen_by(model, image, row, column):
    """``[H, W]`` bool, the pixels that move one feature."""
    image = image.clone().requires_grad_()
    model(image).features[0, 0, row, column].backward()
    return image.grad[0, 0] > 0


@pytest.mark.parametrize("receptive_field", [7, 9, 11, 13, 15, 17, 19, 23])
@pytest.mark.parametrize("cell", [(7, 8), (0, 0), (15, 14)])
def test_a_feature_sees_its_window_and_nothing_else(receptive_field, cell):
    model = without_norms(BagNet(2, receptive_field, **SMALL, dtype=torch.float64).double())
    image = torch.rand(1, 1, 63, 59, dtype=torch.float64)
    top, left, bottom, right = model.window(*cell)
    assert bottom - top == right - left == receptive_field
    wanted = torch.zeros(63, 59, dtype=torch.bool)
    wanted[max(top, 0) : bottom, max(left, 0) : right] = True
    assert torch.equal(seen_by(model, image, *cell), wanted)


@pytest.mark.parametrize("size", [(32, 32), (33, 30), (29, 31)])
def test_every_pixel_is_seen_even_with_the_smallest_window(size):
    model = without_norms(BagNet(2, 7, **SMALL, dtype=torch.float64).double())
    image = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    features = model(image).features
    assert features.shape[2:] == tuple(-(-side // model.stride) for side in size)
    features.sum().backward()
    assert (image.grad > 0).all()


@pytest.mark.parametrize(
    ("receptive_field", "threes"), [(17, [1, 1, 1, 0]), (33, [1, 1, 1, 1])], ids=["BagNet-17", "BagNet-33"]
)
def test_the_published_depth_has_the_published_kernels(receptive_field, threes):
    _, kernels = choose_kernels(receptive_field, (3, 4, 6, 3), (2, 2, 2, 1))
    assert [sizes.count(3) for sizes in kernels] == threes
    assert all(sizes[0] == 3 for sizes, count in zip(kernels, threes, strict=True) if count)


def test_every_odd_window_from_the_stride_on_is_possible_for_the_published_depth():
    distances = torch.tensor([1, 2, 2] + [2, 4, 4, 4] + [4, 8, 8, 8, 8, 8] + [8, 8, 8])
    for receptive_field in range(15, 100, 2):
        stem, kernels = choose_kernels(receptive_field, (3, 4, 6, 3), (2, 2, 2, 1))
        wide = torch.tensor([size == 3 for sizes in kernels for size in sizes])
        assert stem + 2 * int(distances[wide].sum()) == receptive_field


@pytest.mark.parametrize("pooling", ["mean", "max", "logsumexp", "attention"])
def test_every_pooling_makes_a_feature_of_the_map_and_has_gradients(pooling):
    model = BagNet(3, 9, **SMALL, pooling=pooling)
    out = model(torch.rand(2, 1, 24, 20))
    assert out.scores.shape == (2, 3)
    assert out.features.shape == (2, 8, 6, 5)
    torch.testing.assert_close(out.pooled, model.pooling(out.features))
    torch.testing.assert_close(out.scores, model.classifier(out.pooled))
    out.scores.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_mean_pooling_makes_the_scores_the_mean_of_local_scores():
    model = BagNet(3, 9, **SMALL)
    out = model(torch.rand(2, 1, 24, 20))
    local = model.classifier(out.features.movedim(1, -1))
    torch.testing.assert_close(out.scores, local.mean((1, 2)))


def test_pixels_are_converted_as_they_are_told():
    model = BagNet(2, 9, **SMALL, mean=0.5, std=0.25)
    images = torch.randint(256, (2, 1, 16, 16), dtype=torch.uint8)
    plain = BagNet(2, 9, **SMALL)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(images).scores, plain((images / 255 - 0.5) / 0.25).scores, rtol=0, atol=1e-5)


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="images must have one size"):
        BagNet(2, 9, **SMALL)([torch.rand(1, 16, 16), torch.rand(1, 16, 20)])


def test_images_with_a_single_window_are_refused():
    stride = BagNet(2, 9, **SMALL).stride
    assert BagNet(2, 9, **SMALL)(torch.rand(1, 1, stride, stride + 1)).features.shape[2:] == (1, 2)
    with pytest.raises(ValueError, match="images must have more than 4 pixels one way, for an instance norm"):
        BagNet(2, 9, **SMALL)(torch.rand(1, 1, stride, stride))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"receptive_field": 8}, "receptive_field must be odd"),
        ({"receptive_field": 5}, "one of 7, 9"),  # below 2 * stride - 1 pixels would lie between windows
        ({"receptive_field": 999}, "receptive_field"),
        ({"receptive_field": 0}, "receptive_field"),
        ({"blocks": (1, 1)}, "same number of stages"),
        ({"blocks": (1, 0, 1)}, "blocks"),
        ({"strides": (2, 3, 1)}, "strides"),
        ({"channels": (8, 6, 8)}, "channels must be divisible by 4"),
        ({"pooling": "median"}, "pooling .*'median'"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        BagNet(2, **{"receptive_field": 9, **SMALL, **arguments})

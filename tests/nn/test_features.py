"""Feature networks."""

import pytest
import torch

from zoomkern.nn import FeatureNetwork


def test_features_are_nonnegative_and_of_unit_length():
    features = FeatureNetwork(3, (8, 5), (3, 3), (2, 1))(torch.rand(4, 3, 20, 31))
    assert features.shape == (4, 5)
    assert (features >= 0).all()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_without_normalisation_a_brighter_patch_has_larger_features():
    network = FeatureNetwork(1, (6,), (3,), (1,), normalise=False)
    patch = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(network(3 * patch), 3 * network(patch))


def test_features_do_not_depend_on_where_the_object_is():
    network = FeatureNetwork(1, (4, 6), (3, 3), (1, 1))
    patches = torch.zeros(2, 1, 32, 32)
    glyph = torch.rand(5, 5)
    patches[0, 0, 6:11, 8:13] = glyph
    patches[1, 0, 17:22, 20:25] = glyph
    first, second = network(patches)
    torch.testing.assert_close(first, second)


def test_a_patch_that_excites_nothing_stays_zero_with_finite_gradients():
    network = FeatureNetwork(1, (4,), (3,), (1,))
    features = network(torch.zeros(2, 1, 8, 8))
    features.sum().backward()
    assert torch.equal(features, torch.zeros_like(features))
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_no_patches_give_no_features():
    assert FeatureNetwork(1)(torch.zeros(0, 1, 16, 16)).shape == (0, 32)


@pytest.mark.parametrize("arguments", [((4, 4), (3,), (1, 1)), ((), (), ()), ((4,), (4,), (1,)), ((4,), (-1,), (1,))])
def test_layers_that_do_not_match_are_refused(arguments):
    with pytest.raises(ValueError, match="kernel_sizes"):
        FeatureNetwork(1, *arguments)

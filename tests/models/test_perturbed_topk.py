"""Differentiable patch selection."""

import pytest
import torch

import zoomkern
from tests.models.tiny import Given
from zoomkern.models.perturbed_topk import PerturbedTopK, standardised
from zoomkern.nn import FeatureNetwork


def small(logits, k=2, **arguments):
    torch.manual_seed(0)
    features = FeatureNetwork(1, (8,), (3,), (2,))
    plain = {"num_noise": 10, "sigma": 1.0, "standardise": False}
    given = {"attention": Given(logits), "features": features, **plain, **arguments}
    return PerturbedTopK(3, k, (8, 8), **given)


def pictures(number, seed=0):
    return torch.rand(number, 1, 40, 48, generator=torch.Generator().manual_seed(seed))


VIEW = torch.zeros(2, 1, 5, 6)


def every_patch(images, grid):
    """``[B, L, C, 8, 8]`` of all cells."""
    cells = torch.arange(grid[0] * grid[1]).expand(len(images), -1)
    offsets = zoomkern.cell_offsets(cells, grid, tuple(images.shape[2:]), 8)
    return zoomkern.gather_patches(images, offsets, 8)


def test_the_features_see_the_sum_over_the_whole_grid():
    model, images = small(torch.randn(2, 5, 6)), pictures(2)
    out = model(images, VIEW, seed=0)
    assert out.indicators.shape == (2, 2, 20)
    dense = torch.zeros(2, 2, 30)
    columns = torch.where(out.index < 0, 0, out.index)[:, None].expand_as(out.indicators)
    dense.scatter_add_(2, columns, out.indicators.detach())
    wanted = torch.einsum("bkl,blchw->bkchw", dense, every_patch(images, (5, 6)))
    torch.testing.assert_close(out.patches, wanted)
    torch.testing.assert_close(out.pooled, model.features(wanted.flatten(0, 1)).view(2, 2, 8).mean(1))
    torch.testing.assert_close(out.scores, model.classifier(out.pooled))


def test_only_places_that_were_chosen_are_read():
    logits = torch.zeros(1, 5, 6)
    logits[0, 1, 2:5] = 100.0
    out = small(logits)(pictures(1), VIEW[:1], seed=0)
    assert set(out.index[0].tolist()) == {-1, 8, 9, 10}
    assert (out.indicators[0, :, 3:] == 0).all()


def test_evaluation_reads_the_best_places_as_they_are():
    model, images = small(torch.randn(2, 5, 6), k=3).eval(), pictures(2)
    out, again = model(images, VIEW, seed=0), model(images, VIEW, seed=1)
    best = model.attention.logits.flatten(1).topk(3).indices.sort(1).values
    assert torch.equal(out.index, best)
    rows = torch.arange(2)[:, None]
    assert torch.equal(out.patches, every_patch(images, (5, 6))[rows, best])
    assert torch.equal(out.scores, again.scores)


def test_the_attention_is_drawn_to_what_lowers_the_loss():
    """Against the exact slope of the smoothed choice: k = 1 of two places, whose probability is a normal's."""
    logits = torch.tensor([[[0.2, -0.1]]], dtype=torch.float64)
    rows, number, sigma = 400, 200, 0.5
    model = small(logits.expand(rows, -1, -1).clone(), k=1, num_noise=number, sigma=sigma, dtype=torch.float64).double()
    images = torch.zeros(1, 1, 8, 16, dtype=torch.float64)
    images[..., 8:] = 1.0
    out = model(images.expand(rows, -1, -1, -1), torch.zeros(rows, 1, 1, 2), seed=0)
    out.patches.mean((1, 2, 3, 4)).sum().backward()  # the probability of the second place
    gradient = model.attention.logits.grad[:, 0]
    normal = torch.distributions.Normal(0.0, sigma * 2**0.5)
    slope = normal.log_prob(torch.tensor(-0.3)).exp()
    wanted = torch.stack([-slope, slope]).double()
    error = gradient.std(0) / rows**0.5
    assert ((gradient.mean(0) - wanted).abs() < 5 * error).all()  # a false alarm once in 9e5
    assert (error < 0.05 * slope).all()


def test_images_of_different_sizes_are_taken():
    images = [torch.randint(256, (1, h, w), dtype=torch.uint8) for h, w in ((64, 80), (120, 40))]
    model = small(torch.randn(2, 5, 6), mean=0.5, std=0.5)
    out = model(images, VIEW, seed=0)
    assert out.scores.shape == (2, 3)
    sizes = torch.tensor([[64, 80], [120, 40]])
    drawn = out.index >= 0
    wanted = zoomkern.cell_offsets(out.index, (5, 6), sizes, 8)
    assert torch.equal(out.offsets[drawn], wanted[drawn])


def test_sigma_may_be_lowered_in_training():
    model, images = small(torch.randn(2, 5, 6)), pictures(2)
    many = (model(images, VIEW, seed=0).index >= 0).sum()
    model.sigma = 1e-6
    assert (model(images, VIEW, seed=0).index >= 0).sum() == 4 < many


def test_the_scale_of_the_logits_means_nothing_where_they_are_standardised():
    logits, images = torch.randn(2, 5, 6), pictures(2)
    one, other = (small(10**power * logits + power, standardise=True)(images, VIEW, seed=0) for power in (1, 3))
    assert torch.equal(one.index, other.index)
    assert torch.equal(one.indicators, other.indicators)
    flat = other.attention.flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(2), atol=1e-4, rtol=0)  # of numbers of 1e3, to 1e-7 each
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_standardised_in_float32(dtype):
    logits = (300 * torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))).to(dtype)
    torch.testing.assert_close(standardised(logits), standardised(logits.float()), rtol=0, atol=0)
    assert standardised(logits).flatten(1).std(1).min() > 0.9


def test_logits_too_large_to_be_squared_are_standardised():
    logits = torch.tensor([[[0.0, 1.0], [2.0, -3.0]]])
    for scale in (1e18, 1e30):
        torch.testing.assert_close(standardised(scale * logits), standardised(1e4 * logits))


def test_the_derivative_of_standardised_logits_also_where_cells_are_masked():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(standardised, (logits,))
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 0] = True

    def open_cells(values):
        return standardised(values.masked_fill(mask, -torch.inf))[~mask]

    assert torch.autograd.gradcheck(open_cells, (logits,))
    alone = logits[1, 1:].reshape(1, 2, 4)
    torch.testing.assert_close(standardised(logits.masked_fill(mask, -torch.inf))[1, 1:], standardised(alone)[0])


@pytest.mark.parametrize("training", [True, False])
def test_masked_cells_are_not_read(training):
    logits = torch.randn(2, 5, 6)
    logits[:, :, :3] = -torch.inf
    out = small(logits, standardise=True).train(training)(pictures(2), VIEW, seed=0)
    assert (out.attention[:, :, :3] == -torch.inf).all()
    assert (out.index[out.index >= 0] % 6 >= 3).all()


def test_by_default_logits_are_standardised_and_noise_does_not_drown_them():
    model = PerturbedTopK(3, 2, 8)
    assert (model.standardise, model.sigma) == (True, 0.3)


def test_flat_logits_have_a_gradient():
    model = small(torch.zeros(2, 5, 6), standardise=True)
    out = model(pictures(2), VIEW, seed=0)
    assert (out.attention == 0).all()
    out.patches.square().sum().backward()
    gradient = model.attention.logits.grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(value, standardise):
    logits = torch.zeros(2, 5, 6)
    logits[1, 2, 3] = value
    with pytest.raises(ValueError, match="logits"):
        small(logits, standardise=standardise)(pictures(2), VIEW)


@pytest.mark.parametrize("training", [True, False])
def test_masked_places_are_never_read(training):
    logits = torch.zeros(2, 5, 6)
    logits[1].view(-1)[2:] = float("-inf")
    assert small(logits, k=2).train(training)(pictures(2), VIEW).index[1].max() == 1
    with pytest.raises(ValueError, match="must leave 3 places to draw in every row; 2 of row 1 are not -inf"):
        small(logits, k=3).train(training)(pictures(2), VIEW)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"k": 0}, "k must"), ({"num_noise": 1}, "num_noise"), ({"sigma": 0.0}, "sigma"), ({"patch_size": 0}, "patch")],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        PerturbedTopK(2, **{"k": 3, "patch_size": 8, **arguments})


@pytest.mark.parametrize("training", [True, False])
def test_more_places_than_cells_are_refused(training):
    model = small(torch.zeros(2, 5, 6), k=31).train(training)
    with pytest.raises(ValueError, match="k must be at most 30"):
        model(pictures(2), VIEW)

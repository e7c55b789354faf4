"""The one-stage network."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoomkern
from zoomkern.losses import entropy_regulariser
from zoomkern.models import AttentionSampling
from zoomkern.nn import AttentionNetwork, FeatureNetwork


def bright_squares(number, generator):
    """Images ``[B, 1, 128, 128]`` with one 8 x 8 object, plain or checked, and their 16 x 16 views."""
    labels = torch.randint(2, (number,), generator=generator)
    images = torch.zeros(number, 1, 128, 128, dtype=torch.uint8)
    checks = torch.tensor([[0, 254], [254, 0]], dtype=torch.uint8).repeat(4, 4)
    for image, label, (r, c) in zip(images, labels, torch.randint(16, (number, 2), generator=generator), strict=True):
        image[0, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8] = checks if label else 127
    return images, F.avg_pool2d(images.float(), 8) / 255, labels


def small_model(**arguments):
    torch.manual_seed(0)
    return AttentionSampling(
        2,
        num_samples=4,
        patch_size=(12, 12),
        attention=AttentionNetwork(1, (4,), contrast=1.0),
        features=FeatureNetwork(1, (8, 8), (3, 3), (1, 2)),
        mean=(0.0,),
        std=(1.0,),
        **arguments,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "bogus"}, "sampler must be one of 'gumbel', 'threshold', 'replacement', 'topk'; got 'bogus'"),
        ({"estimator": "inclusion"}, "estimator must be one of 'murthy', 'desraj'; got 'inclusion'"),
        ({"gradient": "bogus"}, "gradient must be one of 'exact'"),
        ({"inference": "exact"}, "inference must be one of 'sample', 'topk'; got 'exact'"),
        ({"inference_samples": 0}, "inference_samples must be between 1"),
        ({"gradient": "ats"}, "gradient 'ats' holds for draws by 'gumbel' .*; got 'gumbel' with 'murthy'"),
        ({"gradient": "ats", "sampler": "replacement"}, "'desraj'; got 'replacement' with 'mean'"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"meen": 0.5}, "a further argument must be one of .*; got 'meen'"),
    ],
)
def test_bad_arguments_are_refused_when_the_network_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model(**arguments)


@pytest.fixture
def one_thread():
    """Tensors this small are slower on several threads, far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_loss_falls_and_the_object_is_found_and_told():
    generator = torch.Generator().manual_seed(0)
    model = small_model()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(120):
        images, view, labels = bright_squares(16, generator)
        out = model(images, view)
        loss = F.cross_entropy(out.scores, labels) + entropy_regulariser(out.attention, 1e-3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    images, view, labels = bright_squares(100, generator)
    predicted = model.predict(images, view, seed=1).argmax(1)
    assert (predicted == labels).float().mean() > 0.9  # the views of both classes are equal: without patches 0.5


def test_the_views_of_both_classes_are_equal():
    assert torch.tensor([[0, 254], [254, 0]]).float().mean() == 127


def test_shapes_and_gradients_reach_every_parameter():
    model = small_model()
    nn.init.normal_(model.attention.score.weight)
    images, view, labels = bright_squares(3, torch.Generator().manual_seed(1))
    out = model(images, view, seed=0)
    assert out.scores.shape == (3, 2)
    assert out.attention.shape == (3, 16, 16)
    assert out.sampled.patches.shape == (3, 4, 1, 12, 12)
    assert out.pooled.shape == (3, 8)
    F.cross_entropy(out.scores, labels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_images_of_different_sizes_and_colours_are_taken():
    model = AttentionSampling(5, 3, (16, 16), in_channels=3)
    images = [torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in ((64, 80), (120, 40))]
    assert model(images, torch.rand(2, 3, 8, 8)).scores.shape == (2, 5)


def test_the_baseline_changes_no_value_and_is_on_by_default():
    images, view, _ = bright_squares(4, torch.Generator().manual_seed(2))
    with_baseline, without = small_model(), small_model(baseline=False)
    assert without.baseline is None
    for seed in range(3):
        torch.testing.assert_close(
            with_baseline(images, view, seed=seed).pooled, without(images, view, seed=seed).pooled
        )
    assert with_baseline.baseline.mean.abs().max() > 0


def test_the_step_does_not_use_its_own_features_as_baseline():
    model = small_model()
    nn.init.normal_(model.attention.score.weight)
    images, view, _ = bright_squares(4, torch.Generator().manual_seed(3))
    out = model(images, view, seed=0)
    (gradient,) = torch.autograd.grad(out.pooled.sum(), model.attention.score.weight)
    model.baseline = None
    (plain,) = torch.autograd.grad(model(images, view, seed=0).pooled.sum(), model.attention.score.weight)
    torch.testing.assert_close(gradient, plain)  # the mean before the first step is 0


def test_pooled_is_the_expectation_of_the_patches_features():
    model = small_model().eval()
    images, view, _ = bright_squares(2, torch.Generator().manual_seed(4))
    out = model(images, view, seed=5)
    features = model.features(out.sampled.patches.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(out.pooled, zoomkern.expectation(features, out.sampled.sample))
    torch.testing.assert_close(out.scores, model.classifier(out.pooled))


def test_the_attention_is_the_one_that_drew():
    model = small_model(temperature=0.1)
    nn.init.normal_(model.attention.score.weight)
    images, view, _ = bright_squares(2, torch.Generator().manual_seed(4))
    out = model(images, view, seed=5)
    drew = out.attention.flatten(1).log_softmax(1).gather(1, out.sampled.index)
    torch.testing.assert_close(drew, out.sampled.log_prob)
    torch.testing.assert_close(out.attention, 10 * model.attention(view))


def test_inference_by_sampling_depends_on_the_seed_and_top_k_does_not():
    images, view, _ = bright_squares(2, torch.Generator().manual_seed(5))
    draws = {
        mode: [small_model(inference=mode).eval()(images, view, seed=seed).sampled.index for seed in (1, 2, 1)]
        for mode in ("sample", "topk")
    }
    assert torch.equal(draws["sample"][0], draws["sample"][2])
    assert not torch.equal(draws["sample"][0], draws["sample"][1])
    assert torch.equal(draws["topk"][0], draws["topk"][1])


def test_top_k_reads_the_most_probable_places_and_only_in_evaluation_mode():
    images, view, _ = bright_squares(2, torch.Generator().manual_seed(6))
    model = small_model(inference="topk", inference_samples=7)
    assert model(images, view, seed=0).sampled.index.shape == (2, 4)
    out = model.eval()(images, view)
    best = out.attention.flatten(1).topk(7).values.sum(1)
    torch.testing.assert_close(out.attention.flatten(1).gather(1, out.sampled.index).sum(1), best)


def test_predict_gives_probabilities_and_leaves_the_mode_and_the_baseline_alone():
    model = small_model().train()
    images, view, _ = bright_squares(3, torch.Generator().manual_seed(7))
    probability = model.predict(images, view, seed=0)
    torch.testing.assert_close(probability.sum(1), torch.ones(3))
    assert not probability.requires_grad
    assert model.training
    assert model.baseline.steps == 0


@pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement"])
def test_every_training_sampler_runs_forward_and_backward(sampler):
    images, view, labels = bright_squares(3, torch.Generator().manual_seed(8))
    model = small_model(sampler=sampler)
    F.cross_entropy(model(images, view).scores, labels).backward()
    assert model.classifier.weight.grad.isfinite().all()


def test_an_unknown_inference_mode_is_named():
    with pytest.raises(ValueError, match="inference .*'best'"):
        small_model(inference="best")

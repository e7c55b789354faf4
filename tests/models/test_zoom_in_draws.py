"""The whole two-stage network over all the draws it can make: value, gradient, and the bias behind cross-entropy."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoomkern
from tests.models.tiny import Cut, every_draw, feed, linear, share, tiny_images, tiny_model
from zoomkern import testing
from zoomkern.nn import AttentionNetwork
from zoomkern.typing import Sample

PRESETS = [
    {"num_samples": 3, "tiles": "replacement"},
    {"num_samples": 3, "tiles": "replacement", "sampler": "threshold"},
    {"num_samples": 3, "tiles": "replacement", "estimator": "desraj"},
    {"num_samples": 4, "tiles": "gumbel", "num_tiles": 2},
    {"num_samples": 4, "tiles": "gumbel", "num_tiles": 2, "tile_estimator": "desraj", "sampler": "threshold"},
    {"num_samples": 4, "tiles": "threshold", "num_tiles": 2},
    {"num_samples": 3, "tiles": "threshold", "sampler": "threshold"},
]
presets = pytest.mark.parametrize("preset", PRESETS, ids=lambda p: "-".join(map(str, p.values())))


def cross_entropy(scores):
    """Of class 0, one by one, of scores that differ enough to bend it."""
    return F.cross_entropy(10 * scores, torch.zeros(len(scores), dtype=torch.int64), reduction="none")


def origins(inner, outer):
    """Which row of ``outer`` each of a last stage's draws, two items to a parent, lies in."""
    known = {tuple(row): place for place, row in enumerate(outer.tolist())}
    return torch.tensor([known[tuple(row)] for row in (inner.sample.index // 2).tolist()])


BIASED = {
    "replacement": {"tiles": "replacement"},
    "murthy": {"tiles": "gumbel"},
    "desraj": {"tiles": "gumbel", "tile_estimator": "desraj"},
    "threshold": {"tiles": "threshold", "sampler": "threshold"},
}
#: Bias in percent with 1, 2, 3 and 4 sub-tiles.
DOCUMENTED = {
    "replacement": [5.9, 2.7, 1.7, 1.1],
    "murthy": [5.9, 2.8, 1.9, 1.4],
    "desraj": [5.9, 3.0, 2.2, 1.8],
    "threshold": [5.9, 2.8, 1.8, 1.4],
}


class TestEnumeration:
    """The whole model, both attentions, features, baseline and classifier, over all the draws it can make."""

    @presets
    @pytest.mark.parametrize("baseline", [False, True], ids=["no-baseline", "baseline"])
    @pytest.mark.parametrize("cells", [(2, 2), (1, 2)], ids=["4-cells", "2-cells"])
    @pytest.mark.parametrize("complement", [False, True], ids=["forward", "contrast"])
    def test_value_and_gradient_are_unbiased(self, preset, baseline, cells, complement, monkeypatch, request):
        if preset != PRESETS[-1]:  # the others have more draws than the reference weighs in seconds
            request.getfixturevalue("native")
        model = tiny_model(cells, baseline=baseline, **preset)
        images, view, small = tiny_images()
        exact = model.exact(images, view, small, chunk=4, complement=complement)
        wanted = torch.autograd.grad(linear(exact.scores).sum(), model.parameters())
        outer, items, probability = every_draw(model, exact)
        torch.testing.assert_close(probability.sum(), torch.ones(()).double(), rtol=0, atol=1e-12)
        images, view, small = tiny_images(len(probability))
        feed(monkeypatch, outer, items)
        out = (model.contrast if complement else model)(images, view, small, seed=0)
        draws = testing.Draws(out.sampled.sample, probability)
        attention = share(exact)
        assert float((testing.expected_weights(draws, len(attention)) - attention).abs().max()) < 1e-12
        assert float((probability @ out.pooled - exact.pooled[0]).detach().abs().max()) < 1e-12
        given = torch.autograd.grad((probability * linear(out.scores)).sum(), model.parameters())
        for a, b in zip(given, wanted, strict=True):
            assert float((a - b).abs().max()) < 1e-10
        assert all(float(part.abs().max()) > 1e-3 for part in wanted)

    @pytest.mark.parametrize(
        "preset",
        [{"num_samples": 3}, {"num_samples": 4, "tiles": "gumbel", "tile_estimator": "desraj", "num_tiles": 2}],
        ids=["replacement", "gumbel"],
    )
    def test_published_gradients_keep_the_value_and_miss_the_gradient(self, preset, monkeypatch, native):
        pooled, gradients = [], []
        for gradient in ("exact", "ats", "zoomin"):
            model = tiny_model(estimator="desraj", gradient=gradient, baseline=False, **preset)
            exact = model.exact(*tiny_images())
            outer, items, probability = every_draw(model, exact)
            feed(monkeypatch, outer, items)
            out = model(*tiny_images(len(probability)), seed=0)
            pooled.append(out.pooled)
            weights = [model.features.layers[0].weight, model.tile_attention.network.score.weight]
            gradients.append(torch.autograd.grad(probability @ linear(out.scores), weights))
        torch.testing.assert_close(pooled[1], pooled[0])
        torch.testing.assert_close(pooled[2], pooled[0])
        torch.testing.assert_close(gradients[1][0], gradients[0][0])  # of features, the ATS gradient is unbiased
        assert not torch.allclose(gradients[2][0], gradients[0][0], rtol=0.01)
        assert not torch.allclose(gradients[1][1], gradients[0][1], rtol=0.01)
        assert not torch.allclose(gradients[2][1], gradients[0][1], rtol=0.01)

    def test_stages_that_draw_everything_are_exact(self):
        model = tiny_model(num_samples=16, tiles="gumbel", num_tiles=4, baseline=False)
        out, exact = model(*tiny_images(), seed=0), model.exact(*tiny_images())
        torch.testing.assert_close(out.pooled, exact.pooled, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("preset", PRESETS[3:5], ids=["gumbel", "desraj-threshold"])
    def test_a_third_stage_needs_no_new_gradient_code(self, preset, monkeypatch, native):
        model = tiny_model(**preset | {"num_samples": 2}, baseline=False)
        deepest, features = Cut(AttentionNetwork(1, (2,), pool=2), 1, 2).double(), torch.randn(32, 3).double()
        nn.init.normal_(deepest.network.score.weight, std=3.0)
        parameters = [*model.attention.parameters(), *model.tile_attention.parameters(), *deepest.parameters()]
        parameters.append(features.requires_grad_())
        loss = torch.tensor([70.0, -130.0, 20.0]).double()

        everything = tiny_model(num_samples=16, tiles="gumbel", num_tiles=4, baseline=False)
        everything.load_state_dict(model.state_dict())
        exact, subtiles = model.exact(*tiny_images()), everything(*tiny_images(), seed=0).sampled
        patches = subtiles.patches[0][subtiles.index[0].argsort()]
        logits = deepest(patches).flatten(1)  # [16, 2]
        alpha, beta = exact.attention.flatten(1).softmax(1), exact.tile_attention.flatten(2).softmax(2)
        places = ((alpha[..., None] * beta).flatten()[:, None] * logits.softmax(1)).flatten()  # [32]
        value = places @ features
        wanted = torch.autograd.grad(loss @ value, parameters)

        outer, items, probability = every_draw(model, exact)
        feed(monkeypatch, outer, items)
        two = model(*tiny_images(len(probability)), seed=0).sampled
        three = testing.enumerate_inside(testing.Draws(two.sample, probability), logits.detach(), 1)
        row = origins(three, two.index)
        again = Sample(*(part[row] for part in two.sample))
        inside = deepest(two.patches[row].flatten(0, 1))  # what the network would see, [2 K, 1, 2]
        inner = zoomkern.draw_weights(inside, (three.sample.index % 2).flatten()[:, None])
        whole = zoomkern.compose(again, inner)
        pooled = zoomkern.expectation(features[2 * again.index + whole.index], whole)
        assert len(three.probability) > len(probability)
        assert float((three.probability @ pooled - value).detach().abs().max()) < 1e-12
        given = torch.autograd.grad(three.probability @ pooled @ loss, parameters)
        for a, b in zip(given, wanted, strict=True):
            assert float((a - b).abs().max()) < 1e-10
        assert all(float(part.abs().max()) > 1e-3 for part in wanted)

    def test_the_bias_behind_cross_entropy_is_the_documented_one(self, monkeypatch, native):
        """docs/mathematics.md shows these figures; all 16 of 16 sub-tiles leave no bias."""
        for rule, settings in BIASED.items():
            models = [tiny_model(num_samples=number, baseline=False, **settings) for number in (1, 2, 3, 4)]
            assert [round(100 * self.bias(model, monkeypatch), 1) for model in models] == DOCUMENTED[rule]
        model = tiny_model(num_samples=16, tiles="gumbel", num_tiles=4, baseline=False)
        monkeypatch.undo()
        given, wanted = (
            torch.autograd.grad(cross_entropy(scores).sum(), model.parameters())
            for scores in (model(*tiny_images(), seed=0).scores, model.exact(*tiny_images()).scores)
        )
        for a, b in zip(given, wanted, strict=True):
            assert float((a - b).abs().max()) < 1e-10

    def bias(self, model, monkeypatch):
        """``|E[g] - g| / |g|`` of the gradient towards all parameters."""
        exact = model.exact(*tiny_images())
        wanted = torch.autograd.grad(cross_entropy(exact.scores).sum(), model.parameters())
        outer, items, probability = every_draw(model, exact)
        feed(monkeypatch, outer, items)
        out = model(*tiny_images(len(probability)), seed=0)
        given = torch.autograd.grad(probability @ cross_entropy(out.scores), model.parameters())
        wrong = sum(float((a - b).square().sum()) for a, b in zip(given, wanted, strict=True))
        return (wrong / sum(float(part.square().sum()) for part in wanted)) ** 0.5


@presets
@pytest.mark.parametrize("complement", [False, True], ids=["forward", "contrast"])
def test_the_mean_over_seeds_is_the_exact_value(preset, complement, native):
    model = tiny_model(**preset).eval()
    number = 4000
    images, view, small = tiny_images(number)
    with torch.no_grad():
        pooled = (model.contrast if complement else model)(images, view, small, seed=5).pooled
        exact = model.exact(*tiny_images(), complement=complement).pooled[0]
    error = pooled.std(0) / number**0.5
    assert (error > 1e-6).all()
    assert ((pooled.mean(0) - exact).abs() < 5 * error).all()  # false alarm: 1 in 10^5


@pytest.mark.parametrize("complement", [False, True])
def test_draws_follow_the_attention_or_its_complement(complement, native):
    model = tiny_model(num_samples=1)
    exact = model.exact(*tiny_images())
    alpha, beta = exact.attention.flatten(1).softmax(1), exact.tile_attention.flatten(2).softmax(2)
    if complement:
        alpha, beta = (1 - alpha) / (1 - alpha).sum(1), (1 - beta) / (1 - beta).sum(2, keepdim=True)
    p = (alpha[..., None] * beta).flatten().detach()
    number = 8000
    out = (model.contrast if complement else model)(*tiny_images(number), seed=2)
    drawn = out.sampled.index[:, 0].bincount(minlength=16)
    torch.testing.assert_close(out.sampled.log_prob[:, 0].exp(), p[out.sampled.index[:, 0]])
    assert float(((drawn - number * p).square() / (number * p)).sum()) < 50  # chi^2 of 15: 1 in 10^5

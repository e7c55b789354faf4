"""The whole two-stage network so small that all its draws can be told."""

import torch
from torch import nn
from torch.nn import functional as F

import zoomkern
from zoomkern import testing
from zoomkern.models import ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.typing import Sample


class Given(nn.Module):
    """Logits that are parameters."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, view):
        return self.logits


class Cut(nn.Module):
    """A network whose map keeps its first rows and columns."""

    def __init__(self, network, rows, columns):
        super().__init__()
        self.network, self.rows, self.columns = network, rows, columns

    def forward(self, view):
        return self.network(view)[:, : self.rows, : self.columns]


def tiny_model(cells=(2, 2), **arguments):
    """Networks in float64 that tell 2 x 2 tiles of 12 x 12 pixels apart, and 2 x 2 sub-tiles inside each."""
    torch.manual_seed(3)
    model = ZoomIn(
        2,
        patch_size=(5, 5),
        tile_size=(12, 12),
        tile_scale=0.5,
        attention=AttentionNetwork(1, (3,)),
        tile_attention=Cut(AttentionNetwork(1, (3,), pool=3), *cells),
        features=FeatureNetwork(1, (4,), (3,), (2,)),
        dtype=torch.float64,
        **arguments,
    ).double()
    nn.init.normal_(model.attention.score.weight)
    nn.init.normal_(model.tile_attention.network.score.weight, std=3.0)
    if model.baseline is not None:
        nn.init.normal_(model.baseline.mean)
        nn.init.normal_(model.contrast_baseline.mean)
    return model


def tiny_images(number=1):
    """One image of 24 x 24 pixels again and again, its view of 2 x 2 and itself at 12 x 12."""
    images = torch.rand(1, 1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    images[..., :12, :12] *= 0.2
    images[..., 12:, :12] *= 0.6
    small = F.avg_pool2d(images, 2)
    return (part.expand(number, -1, -1, -1) for part in (images, 2 * F.avg_pool2d(images, 12), small))


def every_draw(model, exact):
    """All draws the model can make of one image: tiles as drawn, items inside each tile, probability of both."""
    width, cells = exact.attention.shape[2], exact.tile_attention[0, 0].numel()
    inside = exact.tile_attention[0].flatten(1).detach()
    number = model.num_samples if model.tiles == "replacement" else model.num_tiles
    settings = {"sampler": model.tiles, "estimator": model.tile_estimator, "grid_width": width}
    drawn = testing.enumerate_samples(exact.attention[0].flatten().detach(), number, **settings)
    counts = torch.full_like(drawn.sample.index, model.num_samples // number)
    tiles = drawn
    if model.tiles == "replacement":
        tiles, counts = testing.merge_draws(drawn)
    counts = counts.clamp(max=cells)
    most = min(model.num_samples if model.tiles == "replacement" else model.num_samples // number, cells)
    outer, items, probability = [], [], []
    for k in range(len(drawn.probability)):
        one = testing.Draws(Sample(*(part[k : k + 1] for part in tiles.sample)), tiles.probability[k : k + 1])
        settings = {"sampler": model.sampler, "estimator": model.estimator}
        draws = testing.enumerate_inside(one, inside, counts[k : k + 1], **settings)
        index = draws.sample.index.unflatten(1, (number, -1))
        index = torch.where(index < 0, -1, index - cells * one.sample.index[..., None])
        items.append(F.pad(index, (0, most - index.shape[2]), value=-1))
        outer.append(drawn.sample.index[k].expand(len(index), -1))
        probability.append(draws.probability)
    return torch.cat(outer), torch.cat(items).flatten(0, 1), torch.cat(probability)


def feed(monkeypatch, *indices):
    """Make the model's draws these, one after the other, weighed by the shipped code."""
    given = iter(indices)

    def sample(logits, num_samples, *, sampler, estimator, backend, max_samples=None, **_):
        index = next(given)
        wanted = torch.as_tensor(num_samples).expand(len(index))
        assert torch.equal((index >= 0).sum(1), wanted)
        assert index.shape[1] == (max_samples or num_samples)
        return zoomkern.draw_weights(logits, index, sampler=sampler, estimator=estimator, backend=backend)

    monkeypatch.setattr("zoomkern.models.zoom_in.sample", sample)


def linear(scores):
    return scores @ torch.tensor([70.0, -130.0], dtype=torch.float64)


def share(output):
    """Probability ``[L l]`` of every sub-tile."""
    alpha, beta = output.attention.flatten(1).softmax(1), output.tile_attention.flatten(2).softmax(2)
    return (alpha[..., None] * beta)[0].flatten().detach()

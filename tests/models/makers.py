"""One small network of each kind, and images for it."""

import torch

from zoomkern.models import AttentionSampling, BagNet, DenseNetwork, IterativePatchSelection, PerturbedTopK, ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork

SMALL = {"channels": (16, 16), "blocks": (1, 1), "strides": (2, 2), "in_channels": 1}


def parts(*names):
    made = {name: AttentionNetwork(1, (4,)) for name in names}
    return {**made, "features": FeatureNetwork(1, (8, 8), (3, 3), (1, 2)), "mean": 0.5, "std": 0.5}


def zoom_in(**arguments):
    settings = {"num_samples": 6, "patch_size": (10, 8), "tile_size": (32, 24), "tile_scale": 0.25}
    return ZoomIn(2, **settings, **parts("attention", "tile_attention"), **arguments)


#: Each takes further arguments of its reading.
MAKERS = {
    "zoom-in": zoom_in,
    "zoom-in, different tiles": lambda **reading: zoom_in(tiles="gumbel", **reading),
    "zoom-in, top-k": lambda **reading: zoom_in(inference="topk", num_tiles=3, **reading).eval(),
    "zoom-in, exact": lambda **reading: zoom_in(inference="exact", **reading).eval(),
    "one stage": lambda **reading: AttentionSampling(2, 6, (10, 8), **parts("attention"), **reading),
    "one stage, top-k": lambda **reading: AttentionSampling(
        2, 6, (10, 8), inference="topk", **parts("attention"), **reading
    ).eval(),
    "differentiable top-k": lambda **reading: PerturbedTopK(2, 3, 12, num_noise=20, **parts("attention"), **reading),
    "patch selection": lambda **reading: IterativePatchSelection(
        2, 4, 16, chunk=5, positions=True, **parts(), **reading
    ),
    "dense": lambda **reading: DenseNetwork(2, features=parts()["features"], mean=0.5, std=0.5, **reading),
    "BagNet": lambda **reading: BagNet(2, 9, **SMALL, mean=0.5, std=0.5, **reading),
}


def pixels(model):
    """What ``model`` takes of three images of 96 x 120 pixels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 1, 96, 120), dtype=torch.uint8, generator=generator)
    view = torch.rand(3, 1, 6, 5, generator=generator)
    given = {"images": images, "view": view, "tile_view": images[..., ::4, ::4].contiguous()}
    return [given[part] for part in model.inputs]

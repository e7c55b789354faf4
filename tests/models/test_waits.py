"""No network asks for a tensor's values, for which a GPU would have to stop."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoomkern.models import AttentionSampling, BagNet, DenseNetwork, IterativePatchSelection, PerturbedTopK, ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork

SMALL = {"channels": (16, 16), "blocks": (1, 1), "strides": (2, 2), "in_channels": 1}


class Waits(TorchDispatchMode):
    """Notes which functions of zoomkern ask for a tensor's values, or for a shape that depends on them."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")
    ON_HOST = ("tolist", "numpy")  # of these the dispatcher of host memory hears nothing

    def __init__(self, monkeypatch):
        super().__init__()
        self.places = set()
        for name in self.ON_HOST:
            monkeypatch.setattr(torch.Tensor, name, self.noted(getattr(torch.Tensor, name)))

    def noted(self, method):
        def call(tensor, *args, **kwargs):
            self.note()
            return method(tensor, *args, **kwargs)

        return call

    def note(self):
        frames = [frame for frame in traceback.extract_stack() if "/zoomkern/" in frame.filename]
        if frames:
            self.places.add(f"{frames[-1].filename.split('/zoomkern/')[-1]}: {frames[-1].name}")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function.overloadpacket
        indexed = packet is torch.ops.aten.index and any(i is not None and i.dtype == torch.bool for i in args[1])
        if indexed or packet in [getattr(torch.ops.aten, name) for name in self.ASKING]:
            self.note()
        return function(*args, **(kwargs or {}))


def parts(*names):
    made = {name: AttentionNetwork(1, (4,)) for name in names}
    return {**made, "features": FeatureNetwork(1, (8, 8), (3, 3), (1, 2)), "mean": 0.5, "std": 0.5}


def zoom_in(**arguments):
    settings = {"num_samples": 6, "patch_size": (10, 8), "tile_size": (32, 24), "tile_scale": 0.25}
    return ZoomIn(2, **settings, **parts("attention", "tile_attention"), **arguments)


MAKERS = {
    "zoom-in": zoom_in,
    "zoom-in, different tiles": lambda: zoom_in(tiles="gumbel"),
    "zoom-in, top-k": lambda: zoom_in(inference="topk", num_tiles=3).eval(),
    "zoom-in, exact": lambda: zoom_in(inference="exact").eval(),
    "one stage": lambda: AttentionSampling(2, 6, (10, 8), **parts("attention")),
    "one stage, top-k": lambda: AttentionSampling(2, 6, (10, 8), inference="topk", **parts("attention")).eval(),
    "differentiable top-k": lambda: PerturbedTopK(2, 3, 12, num_noise=20, **parts("attention")),
    "patch selection": lambda: IterativePatchSelection(2, 4, 16, chunk=5, **parts()),
    "dense": lambda: DenseNetwork(2, features=parts()["features"], mean=0.5, std=0.5),
    "BagNet": lambda: BagNet(2, 9, **SMALL, mean=0.5, std=0.5),
}


#: These look at values in host memory only.
EXCEPT = {"functional/draws.py: require_drawable", "functional/draws.py: _check_counts"}


@pytest.mark.parametrize("name", MAKERS)
def test_no_network_waits_for_values(name, native, monkeypatch):
    images = torch.randint(256, (3, 1, 96, 120), dtype=torch.uint8)
    pixels = {"images": images, "view": torch.rand(3, 1, 6, 5), "tile_view": images[..., ::4, ::4].contiguous()}
    model = MAKERS[name]()
    given = [pixels[part] for part in model.inputs]
    model(*given)  # what is asked once, such as what a library can do
    with Waits(monkeypatch) as waits:
        loss = model(*given).scores.sum()
        if model.training and isinstance(model, ZoomIn):
            loss = loss + model.contrast(*given, seed=torch.tensor([1, 2, 3])).scores.sum()
        loss.backward()
    assert waits.places <= EXCEPT

"""No network asks for a tensor's values, for which a GPU would have to stop."""

import traceback

import pytest
import torch
import torch._dynamo  # which must not learn of torch what is put in its place here
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.makers import MAKERS, pixels
from zoomkern.models import ZoomIn


class Waits(TorchDispatchMode):
    """Notes which functions of zoomkern ask for a tensor's values, or for a shape that depends on them."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")
    ON_HOST = ("tolist", "numpy", "new_tensor")  # of these the dispatcher of host memory hears nothing

    def __init__(self, monkeypatch):
        super().__init__()
        self.places = set()
        for name in self.ON_HOST:
            monkeypatch.setattr(torch.Tensor, name, self.noted(getattr(torch.Tensor, name)))
        for name in ("tensor", "as_tensor"):  # numbers travel to a device that is named
            monkeypatch.setattr(torch, name, self.noted(getattr(torch, name), lambda given: given.get("device")))

    def noted(self, method, waits=lambda given: True):
        def call(*args, **kwargs):
            if waits(kwargs) not in (None, "cpu"):
                self.note()
            return method(*args, **kwargs)

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


#: These look at values in host memory only.
EXCEPT = {"functional/draws.py: require_drawable", "functional/draws.py: _check_counts"}


@pytest.mark.parametrize("name", MAKERS)
def test_no_network_waits_for_values(name, native, monkeypatch):
    model = MAKERS[name]()
    given = pixels(model)
    model(*given)  # what is asked once, such as what a library can do
    with Waits(monkeypatch) as waits:
        loss = model(*given).scores.sum()
        if model.training and isinstance(model, ZoomIn):
            loss = loss + model.contrast(*given, seed=torch.tensor([1, 2, 3])).scores.sum()
        loss.backward()
    assert waits.places <= EXCEPT

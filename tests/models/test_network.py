"""What every whole network promises."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoomkern.images import ImageBank, PinnedImage
from zoomkern.models.bagnet import BagNet
from zoomkern.models.dense import DenseNetwork
from zoomkern.models.network import evaluating
from zoomkern.models.patch_selection import IterativePatchSelection
from zoomkern.models.perturbed_topk import PerturbedTopK
from zoomkern.nn import AttentionNetwork, FeatureNetwork

SMALL_BAGNET = {"channels": (16, 16), "blocks": (1, 1), "strides": (2, 2), "in_channels": 1}


def features():
    return FeatureNetwork(1, (8, 8), (3, 3), (1, 2))


def dense(**arguments):
    return DenseNetwork(2, features=features(), mean=0.0, std=1.0, **arguments)


def bagnet(**arguments):
    return BagNet(2, 9, **SMALL_BAGNET, mean=0.0, std=1.0, **arguments)


def selection(**arguments):
    # all 16 patches: selection does not explore, and with fewer only luck ranks the object among them at the start
    given = {"features": features(), "mean": 0.0, "std": 1.0}
    return IterativePatchSelection(2, 16, 16, chunk=5, **given, **arguments)


def perturbed(**arguments):
    attention = AttentionNetwork(1, (4,), contrast=1.0)
    nn.init.normal_(attention.score.weight)
    given = {"attention": attention, "features": features(), "num_noise": 20, "mean": 0.0, "std": 1.0}
    return PerturbedTopK(2, 3, 12, **given, **arguments)


MAKERS = (dense, bagnet, selection, perturbed)
pytestmark = pytest.mark.usefixtures("one_thread")
models = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def taken(model, images, view):
    """What the network's ``forward`` takes."""
    given = {"images": images, "view": view}
    return [given[name] for name in model.inputs]


@models
def test_the_loss_falls_on_a_task_that_needs_full_resolution(make, squares):
    torch.manual_seed(0)
    model = make()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        images, view, labels = squares(16)
        loss = F.cross_entropy(model(*taken(model, images, view)).scores, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    images, view, labels = squares(100)
    predicted = model.predict(*taken(model, images, view), seed=0).argmax(1)
    assert (predicted == labels).float().mean() > 0.9


@models
def test_scores_come_first_and_a_gradient_reaches_every_parameter(make, squares):
    model = make()
    images, view, labels = squares(4)
    out = model(*taken(model, images, view), seed=0)
    assert out[0] is out.scores
    assert out.scores.shape == (4, 2)
    F.cross_entropy(out.scores, labels).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert missing == []


@models
@pytest.mark.parametrize("kind", ["list", "pinned", "bank"])
def test_images_may_be_given_in_any_form(make, kind, squares):
    model = make()
    images, view, _ = squares(3)
    wanted = model(*taken(model, images, view), seed=0).scores
    if kind == "bank":
        given = ImageBank(list(images))[torch.arange(3)]
    else:
        given = [PinnedImage(image) if kind == "pinned" else image for image in images]
    torch.testing.assert_close(model(*taken(model, given, view), seed=0).scores, wanted, rtol=0, atol=0)


@models
def test_a_batch_of_one_is_what_it_is_in_a_larger_batch(make, squares):
    model = make().eval()
    images, view, _ = squares(3)
    wanted = model(*taken(model, images, view)).scores[1:2]
    torch.testing.assert_close(model(*taken(model, images[1:2], view[1:2])).scores, wanted)
    assert model.train()(*taken(model, images[:1], view[:1])).scores.isfinite().all()


@models
def test_an_empty_batch_has_no_scores(make, squares):
    model = make().eval()
    images, view, _ = squares(1)
    assert model(*taken(model, images[:0], view[:0])).scores.shape == (0, 2)


@models
def test_the_same_seed_gives_the_same_scores(make, squares):
    model = make()
    images, view, _ = squares(3)
    first, second = (model(*taken(model, images, view), seed=7).scores for _ in range(2))
    assert torch.equal(first, second)


@models
def test_an_unknown_argument_is_named(make):
    with pytest.raises(ValueError, match="a further argument must be one of .*; got 'nonesuch'"):
        make(nonesuch=1)


@models
@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_the_number_of_classes_must_be_one(make, number, error):
    kind = type(make())
    needed = {"num_samples": 2, "num_selected": 2, "k": 2, "patch_size": (8, 8)}
    names = kind.__init__.__code__.co_varnames
    with pytest.raises(error, match="num_classes must be"):
        kind(number, **{name: value for name, value in needed.items() if name in names})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_are_float32_at_least(dtype, squares):
    images, view, _ = squares(3)
    model = dense(dtype=dtype).to(dtype)
    probability = model.predict(*taken(model, images, view))
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability.sum(1), torch.ones(3))


@models
def test_predict_gives_probabilities_and_leaves_every_mode_alone(make, squares):
    model = make().train()
    frozen = next(part for part in model.modules() if isinstance(part, nn.Conv2d)).eval()
    images, view, _ = squares(3)
    probability = model.predict(*taken(model, images, view), seed=0)
    torch.testing.assert_close(probability.sum(1), torch.ones(3))
    assert not probability.requires_grad
    assert model.training
    assert not frozen.training


def test_modes_are_restored_after_an_error():
    module = nn.Sequential(nn.ReLU(), nn.ReLU().eval())

    def fail():
        with evaluating(module):
            raise KeyError([part.training for part in module])

    with pytest.raises(KeyError, match="False, False"):
        fail()
    assert [part.training for part in module.modules()] == [True, True, False]

"""Iterative patch selection."""

import pytest
import torch
from torch import nn

from zoomkern.images import Pyramid
from zoomkern.models.patch_selection import IterativePatchSelection, sinusoidal
from zoomkern.nn import FeatureNetwork
from zoomkern.typing import PADDED_OFFSET


class Pixels(nn.Module):
    """A linear map of the patch, in batches of any size the same to the last bit."""

    def __init__(self, size, out_features=8):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, size * size))
        self.norm = nn.BatchNorm1d(out_features)
        self.out_features = out_features

    def forward(self, patches):
        return self.norm((patches.flatten(1)[:, None] * self.weight).sum(-1))


def small(number=5, size=8, **arguments):
    torch.manual_seed(0)
    return IterativePatchSelection(2, number, size, features=Pixels(size), heads=4, **arguments)


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(256, (1, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def kept(model, given):
    with torch.no_grad():
        return model(given).index


def by_hand(model, image):
    """The attention over all patches of an image, in one go: the mean over heads of softmaxes."""
    corners = model._places([tuple(image.shape[1:])], torch.device("cpu"))[0]
    height, width = model.patch_size
    patches = torch.stack([image[:, y : y + height, x : x + width] * 0.01 for y, x in corners.tolist()])
    model.features.eval()
    features = model.features(patches)
    model.features.train()
    return model.pooling.logits(features).softmax(0).mean(-1)


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
@pytest.mark.parametrize("positions", [False, True])
def test_any_chunk_keeps_the_same_patches(chunk, positions):
    given = images((64, 72), (40, 100), (33, 19))
    wanted = kept(small(chunk=13, positions=positions, scale=0.01), given)
    assert torch.equal(kept(small(chunk=chunk, positions=positions, scale=0.01), given), wanted)


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_the_kept_are_those_of_the_highest_attention_among_all(chunk):
    model = small(chunk=chunk, scale=0.01)
    for image in images((64, 72), (33, 90)):
        wanted = by_hand(model, image).topk(5).indices
        assert torch.equal(kept(model, [image])[0], wanted)


def test_equal_patches_are_kept_in_their_order_whatever_the_chunk():
    given = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    for chunk in (1, 7, 10**6):
        assert kept(small(chunk=chunk), given).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("size", "stride", "wanted"),
    [
        ((16, 24), None, ([0, 8], [0, 8, 16])),
        ((17, 23), None, ([0, 8, 9], [0, 8, 15])),
        ((5, 8), None, ([0], [0])),
        ((20, 20), (4, 6), ([0, 4, 8, 12], [0, 6, 12])),
    ],
)
def test_no_remainder_of_the_image_is_left_out(size, stride, wanted):
    places = small(stride=stride)._places([size], torch.device("cpu"))
    rows, columns = wanted
    assert places[0].tolist() == [[y, x] for y in rows for x in columns]
    covered = torch.zeros(size, dtype=torch.bool)
    for y, x in places[0].tolist():
        covered[y : y + 8, x : x + 8] = True
    assert covered.all()


def test_a_patch_that_reads_every_second_pixel_spans_twice_as_many():
    assert small(step=2)._places([(33, 16)], torch.device("cpu"))[0].tolist() == [[0, 0], [16, 0], [17, 0]]


def test_images_with_fewer_patches_are_padded():
    model = small()
    out = model(images((8, 24), (64, 64)))
    assert out.index.shape == (2, 5)
    assert sorted(out.index[0].tolist()) == [-1, -1, 0, 1, 2]
    assert (out.offsets[0, 3:] == PADDED_OFFSET).all()
    assert (out.shares[0, 3:] == 0).all()
    torch.testing.assert_close(out.shares.sum(1), torch.ones(2))


def test_padding_changes_no_other_image():
    model = small().eval()
    little, large = images((8, 24), (64, 64))
    both = model([little, large])
    for row, image in enumerate((little, large)):
        alone = model([image])
        assert torch.equal(alone.index[0], both.index[row])
        torch.testing.assert_close(alone.scores[0], both.scores[row])


def test_scoring_leaves_the_statistics_alone_and_learning_does_not():
    model = small()
    given = images((64, 64))
    places = model._places([(64, 64)], torch.device("cpu"))
    model.select(given, places)
    assert model.features.norm.num_batches_tracked == 0
    model(given)
    assert model.features.norm.num_batches_tracked == 1  # of the kept patches, read again
    assert model.features.training


def test_only_the_kept_patches_are_learnt_from():
    model = small(number=2).eval()
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    out = model(image)
    out.scores.sum().backward()
    touched = torch.zeros(32, 32, dtype=torch.bool)
    for y, x in out.offsets[0].tolist():
        touched[y : y + 8, x : x + 8] = True
    assert torch.equal(image.grad[0, 0] != 0, touched)


@pytest.mark.usefixtures("one_thread")
def test_what_was_learnt_from_many_patches_holds_for_the_few_best(squares):
    torch.manual_seed(0)
    features = FeatureNetwork(1, (8, 8), (3, 3), (1, 2))
    model = IterativePatchSelection(2, 16, 16, features=features, mean=0.0, std=1.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        given, _, labels = squares(16)
        loss = nn.functional.cross_entropy(model(given).scores, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    given, _, labels = squares(100)
    model.num_selected = 2
    with torch.no_grad():
        out = model.eval()(given)
    patch_of_the_object = nn.functional.max_pool2d(given.float(), 16).flatten(1).argmax(1)
    assert (out.index[:, 0] == patch_of_the_object).float().mean() > 0.9
    assert (out.scores.argmax(1) == labels).float().mean() > 0.9


def test_no_more_than_a_chunk_is_encoded_at_a_time():
    model, counts = small(number=3, chunk=4), []
    model.features.register_forward_hook(lambda module, given, out: counts.append(len(out)))
    model(images((32, 40), (16, 16)))
    assert counts == [8, 8, 8, 8, 8, 6]  # 20 patches of two images, then the kept ones


def test_a_level_of_the_pyramids_is_read():
    image = torch.randint(256, (1, 64, 64), dtype=torch.uint8)
    half = image[:, ::2, ::2].contiguous()
    model = small(level=1).eval()
    assert model.reading == {}
    torch.testing.assert_close(model([Pyramid([image, half])]).scores, small().eval()([half]).scores)


def test_positions_tell_equal_patches_apart():
    model = small(positions=True).eval()
    first, second = torch.zeros(2, 1, 32, 32)
    first[:, :8, :8], second[:, 16:24, 8:16] = 1, 1
    with_positions = model(torch.stack([first, second])).scores
    without = small(number=16).eval()(torch.stack([first, second])).scores
    assert (with_positions[0] - with_positions[1]).abs().max() > 1e-3
    torch.testing.assert_close(without[0], without[1])


def test_sines_of_places():
    embedded = sinusoidal(torch.tensor([[3.0, 5.0]], dtype=torch.float64), 8)[0]
    y, x = (torch.tensor([c, c / 100], dtype=torch.float64) for c in (3.0, 5.0))
    torch.testing.assert_close(embedded, torch.cat([y.sin(), y.cos(), x.sin(), x.cos()]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_selected": 0}, "num_selected"),
        ({"patch_size": 0}, "patch_size"),
        ({"chunk": 0}, "chunk"),
        ({"stride": 0}, "stride"),
        ({"heads": 3}, "heads"),
        ({"step": 0}, "step"),
        ({"positions": True, "features": FeatureNetwork(1, (6,), (3,), (1,)), "heads": 2}, "positions"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        IterativePatchSelection(2, **{"num_selected": 3, "patch_size": 8, **arguments})


def test_images_must_be_a_batch():
    with pytest.raises(ValueError, match=r"images\[None\]"):
        small()(torch.rand(1, 32, 32))


def test_an_image_with_nan_is_named():
    given = [image.float() for image in images((64, 72), (40, 100))]
    given[1][0, 20, 30] = torch.nan
    with pytest.raises(ValueError, match="the patches' attention holds NaN in row 1"):
        small().eval()(given)

"""How often attention finds the objects, by hand and against what networks really read."""

from types import SimpleNamespace

import pytest
import torch

from recipes import found
from zoomkern.models import AttentionSampling, ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork

OBJECTS = torch.tensor([[10.0, 20.0, 10.0, 20.0], [40.0, 0.0, 50.0, 4.0]])  # centres (y, x) = (20, 10), (2, 45)


def test_patches_that_hold_an_object():
    places = torch.tensor([[20, 10], [11, 1], [10, 1], [-5, 40], [0, 46]])
    assert found.holds(places, (10, 10), OBJECTS).tolist() == [True, True, False, True, False]


def test_a_look_by_hand():
    held = torch.tensor([False, True, False, False, True])
    attention = torch.tensor([3.0, 1.0, 2.0, 0.0, -1.0])
    index, share = torch.tensor([0, 1, 4, -1]), torch.tensor([0.5, 0.25, 0.25, 9.0])
    assert found.look(attention, index, share, held) == found.Look(0.5, 0.4, 3, 2.0, 5)
    assert found.look(attention, index, share, held & False).rank is None


def test_the_rank_of_even_attention_is_its_mean_over_orders():
    held = torch.tensor([True, True, False, False, False])
    orders = torch.tensor(
        [list(order) for order in torch.cartesian_prod(*[torch.arange(5)] * 5) if len(set(order.tolist())) == 5]
    )
    ranks = [found.look(order.double(), torch.tensor([0]), torch.ones(1), held) for order in orders]
    assert sum(look.rank for look in ranks) / len(ranks) == pytest.approx(ranks[0].even_rank)


@pytest.mark.parametrize("padding_mode", ["constant", "shift"])
@pytest.mark.parametrize("stages", [1, 2])
def test_places_are_those_that_networks_read(stages, padding_mode):
    """The share of draws that hold an object, counted by the grids' places and by the offsets that were read."""
    torch.manual_seed(0)
    networks = {"attention": AttentionNetwork(1, (4,)), "features": FeatureNetwork(1, (4,), (3,), (1,))}
    if stages == 1:
        model = AttentionSampling(2, 40, (10, 12), padding_mode=padding_mode, **networks)
    else:
        networks["tile_attention"] = AttentionNetwork(1, (4,))
        model = ZoomIn(2, 40, (10, 12), (24, 20), tile_scale=0.5, repetitions=2, padding_mode=padding_mode, **networks)
    model.reading |= {"mean": 0.4, "std": 0.2}
    images = [torch.randint(256, (1, 61, 83), dtype=torch.uint8) for _ in range(3)]
    view = torch.nn.functional.interpolate(torch.stack(images).float(), (15, 21), mode="area") / 255
    small = [torch.nn.functional.interpolate(image[None].float(), (31, 42), mode="area")[0].byte() for image in images]
    inputs = (images, view, small)[: stages + 1]
    out = model.eval()(*inputs, seed=1)
    finds = found.Finds()
    batch = SimpleNamespace(images=images, tile_view=small, objects=[OBJECTS, OBJECTS[:0], OBJECTS[1:]])
    finds.on_predict_batch_end(None, SimpleNamespace(model=model), SimpleNamespace(output=out), batch)
    for place, row in enumerate((0, 2)):
        drawn = out.sampled.index[row] >= 0
        offsets = out.sampled.offsets[row][drawn]
        if padding_mode == "shift":
            offsets = found.moved_inside(offsets, (10, 12), (61, 83))
        read = found.holds(offsets, (10, 12), batch.objects[row]).double().mean()
        stage = "patches" if stages == 1 else "sub-tiles"
        assert finds.looks[stage][place].drawn == pytest.approx(float(read))
        assert 0 < finds.looks[stage][place].even < 1
    assert len(finds.looks[stage]) == 2
    if stages == 2:
        inside = finds.looks["sub-tiles of such tiles"]
        weight = torch.stack([out.tiles.weight[row] for row in (0, 2)]).double()
        starts = torch.stack([out.tiles.offsets[row] for row in (0, 2)])
        starts = (starts * torch.tensor([61, 83])).div(torch.tensor([31, 42]), rounding_mode="floor")
        for place, row in enumerate((0, 2)):
            held = found.holds(starts[place], (24, 20), batch.objects[row]) & (out.tiles.index[row] >= 0)
            assert finds.looks["tiles"][place].drawn == pytest.approx(float(weight[place] @ held.double()))
        assert inside
        assert all(1 <= look.rank <= look.places for look in inside)


def test_a_network_that_draws_nothing_finds_nothing():
    batch, outputs = SimpleNamespace(objects=[OBJECTS]), SimpleNamespace(output=SimpleNamespace(scores=None))
    with pytest.raises(ValueError, match="SimpleNamespace must draw patches"):
        found.Finds().on_predict_batch_end(None, SimpleNamespace(model=SimpleNamespace()), outputs, batch)


def test_the_table_by_hand():
    looks = {
        "tiles": [found.Look(0.5, 0.25, 1, 2.5, 4), found.Look(0.0, 0.25, 4, 2.5, 4)],
        "sub-tiles": [found.Look(0.2, 0.1, None, 0.0, 9)],
    }
    rows = found.table(looks).splitlines()[2:]
    assert rows[0] == "| tiles | 2 | 25.0 % | 25.0 % | 1 | 2.5 of 4 | 2 |"
    assert rows[1] == "| sub-tiles | 1 | 20.0 % | 10.0 % | 1 |  |  |"

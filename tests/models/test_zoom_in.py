"""The two-stage network."""

import copy
import shutil
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import zoomkern
from tests.models.tiny import Cut, Given, share, tiny_images, tiny_model
from zoomkern.functional.seeds import derived_seed
from zoomkern.images import ImageBank, Pyramid
from zoomkern.losses import entropy_regulariser, in_sample_contrastive
from zoomkern.models import ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork, GatedAttentionPooling, ResNetFeatures, complement_logits
from zoomkern.typing import PADDED_OFFSET


class Brightness(nn.Module):
    """Attention on the brightest pixel of a view."""

    def forward(self, view):
        return 100.0 * view.mean(1)


class Mean(nn.Module):
    """The mean colour of a patch."""

    out_features = 1

    def forward(self, patches):
        return patches.mean((2, 3))


class TestComplement:
    def test_it_is_the_logarithm_of_one_minus_p(self):
        logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
        torch.testing.assert_close(complement_logits(logits), torch.log1p(-logits.softmax(1)))
        assert torch.autograd.gradcheck(complement_logits, (logits,))

    @pytest.mark.parametrize("peak", [20.0, 200.0, 1e4])
    def test_it_keeps_its_digits_when_attention_has_collapsed(self, peak):
        logits = torch.tensor([[0.0, peak, 0.0]], requires_grad=True)
        complement = complement_logits(logits)
        torch.testing.assert_close(complement[0, 1].item(), torch.tensor(2.0).log().item() - peak, rtol=1e-6, atol=0)
        complement.sum().backward()
        assert logits.grad.isfinite().all()

    def test_ties_and_masked_items(self):
        logits = torch.tensor([[3.0, 3.0, -torch.inf], [1.0, -torch.inf, -torch.inf]], requires_grad=True)
        complement = complement_logits(logits)
        half = torch.tensor(0.5).log().item()
        assert complement[0].tolist() == pytest.approx([half, half, -torch.inf])
        assert complement[1].tolist() == [-torch.inf] * 3
        torch.where(complement > -torch.inf, complement, 0.0).sum().backward()
        assert logits.grad.isfinite().all()

    def test_one_cell_has_none(self):
        with pytest.raises(ValueError, match="at least 2 items"):
            complement_logits(torch.zeros(3, 1))


def grey_model(**arguments):
    torch.manual_seed(0)
    settings = {"patch_size": (10, 8), "tile_size": (32, 24), "tile_scale": 0.25, "num_samples": 6} | arguments
    model = ZoomIn(
        2,
        attention=AttentionNetwork(1, (4,)),
        tile_attention=AttentionNetwork(1, (4,)),
        **({"features": FeatureNetwork(1, (8, 8), (3, 3), (1, 2)), "mean": 0.5, "std": 0.5} | settings),
    )
    nn.init.normal_(model.attention.score.weight)
    nn.init.normal_(model.tile_attention.score.weight)
    return model


def grey_images(*sizes):
    """Images of different sizes, a view of 6 x 5 for each, and the images at a quarter of their size."""
    pyramids = [Pyramid.build(torch.randint(256, (1, h, w), dtype=torch.uint8), 3) for h, w in sizes]
    view = torch.stack([F.interpolate(p[2][None].float() / 255, (6, 5), mode="area")[0] for p in pyramids])
    return [p[0] for p in pyramids], view, [p[2] for p in pyramids]


SIZES = [(96, 120), (131, 64), (70, 203)]


class TestBatches:
    def test_images_of_different_sizes(self):
        images, view, small = grey_images(*SIZES)
        out = grey_model()(images, view, small, seed=0)
        assert out.scores.shape == (3, 2)
        assert out.attention.shape == (3, 6, 5)
        assert out.tiles.patches.shape == (3, 6, 1, 8, 6)
        assert out.tile_attention.shape == (3, 6, 8, 6)
        assert out.sampled.patches.shape == (3, 6, 1, 10, 8)
        assert out.pooled.shape == (3, 8)
        assert (out.sampled.index >= 0).all()
        torch.testing.assert_close(out.sampled.weight.sum(1), torch.ones(3))

    @pytest.mark.parametrize("tiles", ["replacement", "gumbel", "threshold"])
    def test_a_batch_in_two_parts_draws_what_the_whole_draws(self, tiles):
        images, view, small = grey_images(*SIZES)
        model = grey_model(tiles=tiles, repetitions=2).eval()
        seeds = torch.tensor([7, -3, 1 << 50])
        for run in (model, model.contrast):
            whole = run(images, view, small, seed=seeds)
            parts = [run(images[s], view[s], small[s], seed=seeds[s]) for s in (slice(0, 1), slice(1, 3))]
            for name in ("index", "offsets", "patches"):
                for stage in ("tiles", "sampled"):
                    joined = torch.cat([getattr(getattr(part, stage), name) for part in parts])
                    assert torch.equal(getattr(getattr(whole, stage), name), joined)
            torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]))

    def test_a_scalar_seed_gives_every_image_its_own(self):
        images, view, small = grey_images((96, 120))
        out = grey_model()(images * 3, view.expand(3, -1, -1, -1), small * 3, seed=4)
        assert len(out.sampled.index.unique(dim=0)) == 3
        seeds = derived_seed(torch.tensor(4), torch.tensor([1, 2, 3]))
        again = grey_model()(images * 3, view.expand(3, -1, -1, -1), small * 3, seed=seeds)
        assert torch.equal(out.sampled.index, again.sampled.index)

    def test_without_a_seed_torch_s_generator_gives_one(self):
        images, view, small = grey_images(*SIZES)
        model, drawn = grey_model(), []
        for state in (1, 2, 1):
            torch.manual_seed(state)
            drawn.append(model(images, view, small).sampled.index)
        assert torch.equal(drawn[0], drawn[2])
        assert not torch.equal(drawn[0], drawn[1])

    def test_a_bank_s_batch_and_pyramids_are_taken(self):
        images, view, small = grey_images(*SIZES)
        model = grey_model()
        wanted = model(images, view, small, seed=0)
        ids = torch.arange(3)
        given = model(ImageBank(images)[ids], view, ImageBank(small)[ids], seed=0)
        assert torch.equal(given.sampled.patches, wanted.sampled.patches)
        given = model([Pyramid([i, s]) for i, s in zip(images, small, strict=True)], view, small, seed=0)
        assert torch.equal(given.sampled.patches, wanted.sampled.patches)

    def test_an_empty_batch(self):
        model = grey_model()
        out = model(torch.zeros(0, 1, 40, 40), torch.zeros(0, 1, 6, 5), torch.zeros(0, 1, 10, 10), seed=0)
        assert out.scores.shape == (0, 2)
        assert out.sampled.patches.shape == (0, 6, 1, 10, 8)

    def test_gradients_reach_every_parameter(self):
        images, view, small = grey_images(*SIZES)
        labels = torch.tensor([0, 1, 1])
        model = grey_model()
        model(images, view, small)  # the baseline's first step
        out, contrast = model(images, view, small), model.contrast(images, view, small)
        loss = F.cross_entropy(out.scores, labels) + in_sample_contrastive(contrast.scores, labels)
        (loss + entropy_regulariser(out.attention, 1e-2)).backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


class TestSeeds:
    def test_it_is_splitmix64(self):
        def splitmix(seed, number):
            z = (seed + number * 0x9E3779B97F4A7C15) % 2**64
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
            return z ^ z >> 31

        assert splitmix(1234567, 1) == 6457827717110365317  # published first output for this seed
        for seed in (0, 1234567, -5, (1 << 63) - 1):
            numbers = torch.tensor([0, 1, 2, 10**9, -1])
            given = derived_seed(torch.tensor(seed), numbers)
            assert [g % 2**64 for g in given.tolist()] == [splitmix(seed, n) for n in numbers.tolist()]


class TestPlaces:
    """What attention points at is what is read."""

    @pytest.mark.parametrize("size", [(96, 120), (97, 123)])
    @pytest.mark.parametrize("align", ["center", "corners"])
    def test_the_brightest_spot_is_found_anywhere(self, size, align):
        height, width = size
        for y, x in [(0, 0), (0, width - 4), (height - 4, 0), (height - 4, width - 4), (40, 56), (37, 71), (63, 18)]:
            image = torch.zeros(1, 1, height, width)
            image[..., y : y + 4, x : x + 4] = 1.0
            small = F.avg_pool2d(image, 4, ceil_mode=True, count_include_pad=False)
            model = ZoomIn(
                2, 1, (12, 12), (48, 48), tile_scale=0.25, inference="topk", align=align,
                attention=Brightness(), tile_attention=Brightness(), features=Mean(),
            ).eval()  # fmt: skip
            out = model(image, F.adaptive_avg_pool2d(image, (6, 6)), small)
            assert out.tiles.patches.amax() == small.amax()
            inside = image[0, 0, max(y, 0) : y + 4, max(x, 0) : x + 4].sum()
            assert out.sampled.patches.sum() == inside, (y, x)

    def test_sub_tiles_lie_in_their_tiles_by_the_public_rule(self):
        images, view, small = grey_images(*SIZES)
        out = grey_model()(images, view, small, seed=0)
        small_sizes = torch.tensor([s.shape[1:] for s in small])
        places = zoomkern.cell_offsets(out.tiles.index, (6, 5), small_sizes, (8, 6))
        assert torch.equal(out.tiles.offsets, places)
        drawn = zoomkern.gather_patches(small, places, (8, 6), mean=0.5, std=0.5)
        assert torch.equal(out.tiles.patches, drawn)
        tile, item = out.sampled.index // 48, out.sampled.index % 48
        slot = (out.tiles.index[:, None] == tile[..., None]).int().argmax(2)
        sizes = torch.tensor([i.shape[1:] for i in images])
        start = places * sizes[:, None] // small_sizes[:, None]
        inside = zoomkern.cell_offsets(item, (8, 6), (32, 24), (10, 8))
        wanted = start.gather(1, slot[..., None].expand(-1, -1, 2)) + inside
        assert torch.equal(out.sampled.offsets, wanted)
        read = zoomkern.gather_patches(images, wanted, (10, 8), mean=0.5, std=0.5)
        assert torch.equal(out.sampled.patches, read)

    def test_outside_the_image_is_fill_and_a_tile_s_edge_is_none(self):
        image, view = torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 2, 2)
        model = ZoomIn(
            2, 4, (12, 12), (16, 16), tile_scale=0.5, tiles="gumbel", features=Mean(), fill=7.0, in_channels=1,
            tile_attention=Cut(AttentionNetwork(1), 1, 1),
        )  # fmt: skip
        out = model(image, view, torch.ones(1, 1, 16, 16), seed=0)
        assert (out.sampled.patches == 1).all()
        wide = ZoomIn(
            2, 4, (24, 24), (32, 32), tile_scale=0.5, tiles="gumbel", features=Mean(), fill=7.0, in_channels=1
        )
        out = wide(image, view, torch.ones(1, 1, 16, 16), seed=0)
        assert set(out.tiles.patches.unique().tolist()) == {1.0, 7.0}
        corner = out.tiles.patches[0, (out.tiles.index[0] == 0).int().argmax(), 0]
        assert (corner[4:, 4:] == 1).all()
        assert (corner[:4] == 7).all()

    def test_shifted_sub_tiles_say_where_they_were_read(self):
        images, view, small = grey_images((40, 36), (64, 52), (34, 80))
        where = {mode: grey_model(padding_mode=mode, align="corners") for mode in ("constant", "shift")}
        moved, hanging = where["shift"](images, view, small, seed=3), where["constant"](images, view, small, seed=3)
        assert torch.equal(moved.sampled.index, hanging.sampled.index)
        assert not torch.equal(moved.sampled.offsets, hanging.sampled.offsets)
        read = zoomkern.gather_patches(images, moved.sampled.offsets, (10, 8), mean=0.5, std=0.5)
        assert torch.equal(moved.sampled.patches, read)
        for image, drawn, places in zip(images, moved.sampled.index >= 0, moved.sampled.offsets, strict=True):
            room = torch.tensor(image.shape[1:]) - torch.tensor((10, 8))
            assert ((places[drawn] >= 0) & (places[drawn] <= room)).all()

    def test_step_widens_sub_tiles_alone(self):
        image = torch.arange(32 * 32.0).reshape(1, 1, 32, 32)
        model = ZoomIn(
            2, 4, (4, 4), (16, 16), tile_scale=0.5, tiles="gumbel", features=Mean(), step=2, in_channels=1,
            tile_attention=Cut(AttentionNetwork(1), 1, 1),
        )  # fmt: skip
        out = model(image, torch.zeros(1, 1, 2, 2), F.avg_pool2d(image, 2), seed=0)
        assert out.tiles.patches.shape == (1, 4, 1, 8, 8)
        y, x = out.sampled.offsets[0, 0].tolist()
        assert torch.equal(out.sampled.patches[0, 0, 0], image[0, 0, y : y + 8 : 2, x : x + 8 : 2])


class TestPadding:
    @pytest.mark.parametrize("inference", ["sample", "topk", "exact"])
    @pytest.mark.parametrize(("value", "said"), [(torch.nan, "holds NaN"), (-torch.inf, "is -inf everywhere")])
    def test_an_image_without_a_place_is_named(self, inference, value, said):
        class Spoilt(AttentionNetwork):
            def forward(self, view):
                return super().forward(view).index_fill(0, torch.tensor([1]), value)

        model = grey_model(inference=inference).eval()
        model.attention = Spoilt(1)
        with pytest.raises(ValueError, match=f"^attention {said} in row 1, so no place can be drawn"):
            model(*grey_images(*SIZES), seed=0)
        model = grey_model(inference=inference).eval()
        model.tile_attention = Spoilt(1)
        with pytest.raises(ValueError, match=f"^tile_attention {said} in row 1, so no place can be drawn"):
            model(*grey_images(*SIZES), seed=0)

    def test_a_tile_of_one_place_has_no_complement_to_add_up(self):
        model = tiny_model(num_samples=2)
        inner = torch.full((1, 2, 2), -torch.inf, dtype=torch.float64)
        inner[:, 0, 0] = 0
        model.tile_attention = Given(inner)
        with pytest.raises(ValueError, match="tile_attention's complement is -inf everywhere in row 0"):
            model.exact(*tiny_images(), complement=True)

    def test_a_tile_that_holds_the_whole_image_is_warned_of(self):
        model = tiny_model(num_samples=2)
        model.tile_size = (25, 25)
        with pytest.warns(UserWarning, match="tile_size 25 x 25 is larger than an image, 24 x 24 pixels"):
            model(*tiny_images(), seed=0)

    def test_a_tile_gets_no_more_draws_than_it_has_sub_tiles(self):
        model = tiny_model((1, 2), num_samples=5)
        out = model(*tiny_images(50), seed=0)
        drawn = out.sampled.index >= 0
        assert drawn.sum(1).min() < 5
        ordered = out.sampled.index.sort(1).values
        assert ((ordered.diff(dim=1) > 0) | (ordered[:, 1:] < 0)).all()  # nothing twice
        torch.testing.assert_close(out.sampled.weight.sum(1), torch.ones(50).double())
        torch.testing.assert_close(out.tiles.weight.sum(1), torch.ones(50).double())
        distinct = (out.tiles.index >= 0).sum(1)
        assert (drawn.sum(1) <= 2 * distinct).all()
        assert (drawn.sum(1) >= distinct).all()

    def test_padding_has_no_weight_and_is_filled(self):
        out = tiny_model((1, 2), num_samples=5, fill=3.0)(*tiny_images(20), seed=0)
        for stage in (out.tiles, out.sampled):
            padded = stage.index < 0
            assert padded.any()
            assert (stage.weight[padded] == 0).all()
            assert (stage.log_prob[padded] == 0).all()
            assert (stage.offsets[padded] == PADDED_OFFSET).all()
            assert (stage.patches[padded] == 3.0).all()

    def test_what_padding_holds_changes_nothing(self):
        images = torch.rand(4, 1, 48, 48)
        view, small = F.avg_pool2d(images, 24), F.avg_pool2d(images, 4)
        results = []
        for fill in (0.0, 1e4):
            torch.manual_seed(0)
            model = ZoomIn(2, 8, (4, 4), (24, 24), tile_scale=0.25, fill=fill, in_channels=1)
            nn.init.normal_(model.attention.score.weight)
            nn.init.normal_(model.tile_attention.score.weight)
            out = model(images, view, small, seed=0)
            assert (out.tiles.index < 0).any()
            results.append((out.scores, *torch.autograd.grad(out.scores.sum(), model.parameters())))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)

    def test_more_tiles_than_cells_are_padded_and_exact(self):
        model = tiny_model(num_samples=24, tiles="gumbel", num_tiles=6)
        with pytest.warns(UserWarning, match="num_tiles = 6 draws from a grid of 4 cells: the other 2 are padding"):
            out = model(*tiny_images(), seed=0)
        assert (out.sampled.index >= 0).sum() == 16
        torch.testing.assert_close(out.pooled, model.exact(*tiny_images()).pooled)


class TestInference:
    def test_repetitions_are_averaged(self):
        model = grey_model(repetitions=5).eval()
        images, view, small = grey_images(*SIZES)
        seeds = torch.tensor([1, 2, 3])
        out = model(images, view, small, seed=seeds)
        assert out.sampled.index.shape == (3, 30)
        model.repetitions, runs = 1, []
        for r in range(5):
            numbered = seeds if r == 0 else derived_seed(seeds, torch.tensor(-r))
            runs.append(model(images, view, small, seed=numbered))
        torch.testing.assert_close(out.scores, torch.stack([run.scores for run in runs]).mean(0))
        torch.testing.assert_close(out.sampled.weight.sum(1), torch.ones(3))
        torch.testing.assert_close(out.pooled, torch.stack([run.pooled for run in runs]).mean(0))

    def test_training_draws_once(self):
        images, view, small = grey_images(*SIZES)
        assert grey_model(repetitions=5)(images, view, small).sampled.index.shape == (3, 6)

    @pytest.mark.parametrize("tiles", ["replacement", "gumbel"])
    def test_top_k_reads_the_most_probable_places(self, tiles):
        model = grey_model(tiles=tiles, inference="topk", num_tiles=3).eval()
        images, view, small = grey_images(*SIZES)
        out = model(images, view, small, seed=1)
        assert torch.equal(out.sampled.index, model(images, view, small, seed=2).sampled.index)
        assert torch.equal(out.tiles.index, out.attention.flatten(1).topk(3).indices)
        best = out.tile_attention.flatten(2).topk(2).indices + 48 * out.tiles.index[..., None]
        assert torch.equal(out.sampled.index, best.flatten(1))
        torch.testing.assert_close(out.sampled.weight.sum(1), torch.ones(3))

    def test_exact_is_the_double_sum(self):
        model = tiny_model(num_samples=2)
        images, view, small = tiny_images()
        exact = model.exact(images, view, small)
        places = zoomkern.cell_offsets(torch.arange(4)[None], (2, 2), (12, 12), (6, 6))
        inside = zoomkern.cell_offsets(torch.arange(4)[None], (2, 2), (12, 12), (5, 5))
        offsets = (2 * places[:, :, None] + inside[:, None]).flatten(1, 2)
        patches = zoomkern.gather_patches(images, offsets, 5, dtype=torch.float64)[0]
        torch.testing.assert_close(exact.pooled[0], share(exact) @ model.features(patches))
        torch.testing.assert_close(exact.scores, model.classifier(exact.pooled))

    def test_exact_inference_reads_everything_and_training_draws(self):
        model = grey_model(inference="exact")
        images, view, small = grey_images(*SIZES)
        assert model(images, view, small).sampled.index.shape == (3, 6)
        out = model.eval()(images, view, small, seed=1)
        torch.testing.assert_close(out.scores, model.exact(images, view, small).scores, rtol=0, atol=0)
        torch.testing.assert_close(model.predict(images, view, small), out.scores.softmax(1), rtol=0, atol=0)

    @pytest.mark.parametrize("chunk", [1, 7, 1000])
    def test_chunks_change_nothing_but_the_memory(self, chunk):
        model, seen = grey_model(), []
        images, view, small = grey_images(*SIZES)
        wanted = model.exact(images, view, small, chunk=3)
        model.features.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
        out = model.exact(images, view, small, chunk=chunk)
        torch.testing.assert_close(out.scores, wanted.scores)
        torch.testing.assert_close(out.tile_attention, wanted.tile_attention)
        assert out.tile_attention.shape == (3, 30, 8, 6)
        assert max(seen) <= 3 * chunk * 48
        assert sum(seen) == 3 * 30 * 48

    def test_predict_gives_probabilities_and_leaves_the_mode_and_the_baselines_alone(self):
        model = grey_model().train()
        images, view, small = grey_images(*SIZES)
        probability = model.predict(images, view, small, seed=0)
        torch.testing.assert_close(probability.sum(1), torch.ones(3))
        assert not probability.requires_grad
        assert model.training
        assert model.baseline.steps == 0

    @pytest.mark.parametrize("compiled", [False, True])
    def test_the_contrastive_pass_leaves_running_statistics_to_the_other(self, compiled, request):
        if compiled:  # the reference looks at values
            request.getfixturevalue("native")
        model = grey_model(features=ResNetFeatures(1, (4,), (1,)))
        images, view, small = grey_images(*SIZES)
        model(images, view, small)
        before = copy.deepcopy(dict(model.features.named_buffers()))
        contrast = torch.compile(model.contrast, backend="eager", fullgraph=True) if compiled else model.contrast
        contrast(images, view, small)
        assert all(torch.equal(before[name], value) for name, value in model.features.named_buffers())
        model(images, view, small)
        assert not torch.equal(before["layers.1.running_mean"], model.features.layers[1].running_mean)

    def test_each_pass_has_its_own_baseline(self):
        model = grey_model()
        images, view, small = grey_images(*SIZES)
        model(images, view, small)
        assert (model.baseline.steps, model.contrast_baseline.steps) == (1, 0)
        model.contrast(images, view, small)
        assert (model.baseline.steps, model.contrast_baseline.steps) == (1, 1)
        assert grey_model(baseline=False).contrast_baseline is None


def eager_and_compiled(model, images, view, small, **compiler):
    """Loss, draws, buffers and gradients of a step with both passes, as it is and compiled."""

    def step(model, images, view, small, seed):
        out, contrast = model(images, view, small, seed=seed), model.contrast(images, view, small, seed=seed)
        return (out.scores * contrast.scores).sum(), out.sampled.index

    torch._dynamo.reset()
    for run in (step, torch.compile(step, fullgraph=True, **compiler)):
        twin = copy.deepcopy(model)
        loss, index = run(twin, images, view, small, torch.tensor([3, 4]))
        yield loss.detach(), index, *twin.buffers(), *torch.autograd.grad(loss, twin.parameters())


@pytest.mark.parametrize(
    ("tiles", "kind", "baseline"),
    [
        ("replacement", "tensor", False),
        ("replacement", "list", False),
        ("gumbel", "tensor", False),
        ("threshold", "list", False),
        ("replacement", "tensor", True),
    ],
)
def test_it_compiles_into_one_graph(tiles, kind, baseline, native):
    images, view, small = grey_images((96, 120), (96, 120))
    if kind == "tensor":
        images, small = torch.stack(images), torch.stack(small)
    model = grey_model(tiles=tiles, baseline=baseline)
    if baseline:
        nn.init.normal_(model.baseline.mean)
        nn.init.normal_(model.contrast_baseline.mean)
    results = eager_and_compiled(model, images, view, small, backend="aot_eager")
    for wanted, given in zip(*results, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-7)


def test_inductor_gives_the_same_gradients(native):
    if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        pytest.skip("inductor needs a C++ compiler on the PATH")
    images, view, small = grey_images((96, 120), (96, 120))
    model = grey_model(baseline=False)
    options = {"layout_optimization": False}  # with it, torch 2.13 mistakes the strides of replicated borders
    results = eager_and_compiled(model, torch.stack(images), view, torch.stack(small), options=options)
    for wanted, given in zip(*results, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-6)


class Recomputed(nn.Module):
    """Features whose activations are computed again in backward."""

    out_features = 4

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)
        )

    def forward(self, patches):
        return checkpoint(self.layers, patches, use_reentrant=False).mean((2, 3))


def test_a_contrastive_pass_may_be_checkpointed_and_moves_no_statistics():
    images, view, small = grey_images(*SIZES)
    model = grey_model(features=Recomputed(), baseline=False)
    model.attention = nn.Sequential(nn.BatchNorm2d(1, momentum=None), model.attention)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = model.contrast(images, view, small, seed=0).scores
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    scores.sum().backward()
    assert model.features.layers[0].weight.grad.isfinite().all()
    momenta = [part.momentum for part in model.modules() if hasattr(part, "momentum") and hasattr(part, "running_var")]
    assert momenta == [None, 0.1, 0.1]
    model(images, view, small, seed=0)
    assert not torch.equal(model.attention[0].running_mean, before["attention.0.running_mean"])


def test_a_contrastive_pass_that_overflows_moves_no_statistics():
    images, view, small = grey_images(*SIZES)
    model = grey_model(features=ResNetFeatures(1, (4,), (1,)))
    model.features.register_forward_pre_hook(lambda _, given: (given[0] * torch.inf,))
    assert not model.contrast(images, view, small, seed=0).scores.isfinite().any()
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("entry", ["contrast", "exact"])
def test_attention_on_one_place_has_no_complement(entry):
    images, view, small = grey_images(*SIZES)
    model = grey_model()
    alone = torch.full((3, 6, 5), -torch.inf).index_fill(1, torch.tensor([2]), 0.0)
    alone[1, 2, 1:] = -torch.inf
    model.attention = Given(alone)
    call = partial(model.exact, complement=True) if entry == "exact" else model.contrast
    with pytest.raises(ValueError, match="complement of an attention on one place is -inf everywhere in row 1"):
        call(images, view, small)


def test_half_precision_networks():
    images, view, small = grey_images(*SIZES)
    model = grey_model()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images, view, small, seed=0)
        contrast = model.contrast(images, view, small, seed=0)
        exact = model.exact(images, view, small, chunk=30)
    assert out.sampled.log_prob.dtype == torch.float32
    torch.testing.assert_close(out.sampled.weight.sum(1), torch.ones(3))
    assert exact.pooled.float().isfinite().all()
    (out.scores.float().sum() + contrast.scores.float().sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def bright_squares(number, generator):
    """Images ``[B, 1, 128, 128]`` with one 8 x 8 object, plain or checked, which views at 1/8 and 1/4 do not tell."""
    labels = torch.randint(2, (number,), generator=generator)
    images = torch.zeros(number, 1, 128, 128, dtype=torch.uint8)
    checks = torch.tensor([[0, 254], [254, 0]], dtype=torch.uint8).repeat(4, 4)
    for image, label, (r, c) in zip(images, labels, torch.randint(16, (number, 2), generator=generator), strict=True):
        image[0, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8] = checks if label else 127
    views = [F.avg_pool2d(images.float(), size) / 255 for size in (8, 4)]
    return images, *views, labels


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("tiles", ["replacement", "threshold"])
def test_the_loss_falls_and_the_object_is_found_and_told(tiles):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = ZoomIn(
        2,
        num_samples=4,
        patch_size=(12, 12),
        tile_size=(32, 32),
        tile_scale=0.25,
        tiles=tiles,
        num_tiles=2,
        attention=AttentionNetwork(1, (4,), pool=4, contrast=1.0),
        tile_attention=AttentionNetwork(1, (4,), contrast=1.0),
        features=FeatureNetwork(1, (8, 8), (3, 3), (1, 2)),
        mean=0.0,
        std=1.0,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(120):
        images, view, small, labels = bright_squares(16, generator)
        out = model(images, view, small)
        loss = F.cross_entropy(out.scores, labels) + entropy_regulariser(out.attention, 1e-3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    images, view, small, labels = bright_squares(100, generator)
    predicted = model.predict(images, view, small, seed=1).argmax(1)
    assert (predicted == labels).float().mean() > 0.9  # the views of both classes are equal: without sub-tiles 0.5
    with torch.no_grad():
        exact = model.eval().exact(images[:8], view[:8], small[:8]).scores.argmax(1)
    assert torch.equal(exact, labels[:8])


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_samples": 0}, "num_samples must be between 1"),
            ({"num_samples": 6, "num_tiles": 4}, "num_tiles must divide num_samples = 6; got 4"),
            ({"patch_size": (33, 8)}, r"patch_size must fit in tile_size = \(32, 24\).*got \(33, 8\) at step 1"),
            ({"step": 4}, r"patch_size must fit in tile_size.*got \(10, 8\) at step 4"),
            ({"tile_scale": 2.0}, r"tile_scale must lie in \(0, 1\].*got 2.0"),
            ({"tiles": "topk"}, "tiles must be one of .*'topk'"),
            ({"sampler": "replacement"}, "sampler must be one of .*'replacement'"),
            ({"estimator": "inclusion"}, "estimator must be one of 'murthy', 'desraj'; got 'inclusion'"),
            ({"tile_estimator": "murthy"}, "tile_estimator must be one of 'mean'; got 'murthy'"),
            ({"gradient": "wrong"}, "gradient must be one of .*'wrong'"),
            ({"inference": "best"}, "inference must be one of .*'best'"),
            ({"repetitions": 0}, "repetitions must be between 1"),
            ({"align": "left"}, "align must be one of .*'left'"),
            ({"tile_scale": 1.5}, r"tile_scale must lie in \(0, 1\], 1 being full resolution; got 1.5"),
            ({"fil": 0.0}, "a further argument must be one of .*'fil'"),
            ({"level": 1}, "a further argument must be one of .*'level'"),
        ],
    )
    def test_settings(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            grey_model(**arguments)

    def test_a_bank_at_another_scale(self):
        model = grey_model()
        images, view, small = grey_images(*SIZES)
        everything = torch.arange(len(images))
        whole, tiles = ImageBank(images), ImageBank(small)
        model(whole[everything], view, tiles[everything])
        with pytest.raises(ValueError, match=r"tile_view must be the images at tile_scale = 0.25, 24 x 30 .*96 x 120"):
            model(whole[everything], view, whole[everything])

    def test_inputs(self):
        model = grey_model()
        images, view, small = grey_images(*SIZES)
        with pytest.raises(ValueError, match=r"tile_view must be the images at tile_scale = 0.25, 24 x 30 .*96 x 120"):
            model(images, view, images)
        with pytest.raises(ValueError, match="images must be one for each of the 3 of view; got 2"):
            model(images[:2], view, small)
        with pytest.raises(ValueError, match="tile_view must be one for each of the 3 of view; got 2"):
            model(images, view, small[:2])
        with pytest.raises(ValueError, match=r"seed must be a scalar or \[B\] = \[3\]; got \[2\]"):
            model(images, view, small, seed=torch.tensor([1, 2]))
        with pytest.raises(TypeError, match="seed must be int64"):
            model(images, view, small, seed=torch.zeros(3))
        with pytest.raises(TypeError, match="seed must be an int"):
            model(images, view, small, seed=1.5)
        with pytest.raises(ValueError, match="chunk must be between 1"):
            model.exact(images, view, small, chunk=0)

    def test_networks(self):
        images, view, small = grey_images(*SIZES)
        model = grey_model()
        model.attention = nn.Conv2d(1, 1, 1)
        with pytest.raises(ValueError, match=r"attention must return \[B, Gh, Gw\], B = 3; got \[3, 1, 6, 5\]"):
            model(images, view, small)
        model = grey_model()
        model.tile_attention = nn.Flatten()
        with pytest.raises(ValueError, match=r"tile_attention must return \[18, gh, gw\]; got \[18, 48\]"):
            model(images, view, small)


@pytest.mark.parametrize("tiles", ["replacement", "gumbel"])
def test_a_gated_head_learns_through_both_attentions(tiles):
    torch.manual_seed(0)
    model = ZoomIn(
        2, 4, (8, 8), (16, 16), tile_scale=0.5, tiles=tiles, num_tiles=2, pooling=GatedAttentionPooling(32, 8),
        mean=0.5, in_channels=1,
    )  # fmt: skip
    images = torch.rand(3, 1, 32, 32)
    out = model(images, images[:, :, ::4, ::4], images[:, :, ::2, ::2], seed=1)
    out.scores[:, 1].sum().backward()
    for name, parameter in model.named_parameters():
        if "hidden" not in name:  # the last layers start at zero and let nothing through
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_a_gated_head_over_everything_is_what_many_draws_come_to():
    torch.manual_seed(0)
    pooling = GatedAttentionPooling(32, 8)
    model = ZoomIn(
        2, 64, (8, 8), (16, 16), tile_scale=0.5, tiles="gumbel", num_tiles=16, pooling=pooling, in_channels=1
    ).eval()
    for module in (model.attention, model.tile_attention):
        torch.nn.init.normal_(module.score.weight)
    images = torch.rand(2, 1, 32, 32)
    views = images[:, :, ::8, ::8], images[:, :, ::2, ::2]
    exact = model.exact(images, *views, chunk=3)
    assert exact.attention.shape == (2, 4, 4)
    model.num_samples = 16 * 64  # every sub-tile of every tile
    drawn = model(images, *views, seed=0)
    assert torch.allclose(drawn.pooled, exact.pooled, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sampler": "threshold"},
        {"estimator": "desraj", "tiles": "threshold"},
        {"estimator": "desraj", "tiles": "gumbel"},
        {"estimator": "desraj", "tiles": "gumbel", "tile_estimator": "murthy"},
    ],
)
def test_a_published_gradient_is_refused_where_it_does_not_hold(arguments):
    with pytest.raises(ValueError, match="gradient 'zoomin' holds for draws by 'gumbel' with the estimator 'desraj'"):
        grey_model(gradient="zoomin", **arguments)


def test_a_tile_whose_view_is_rounded_far_is_worth_a_warning():
    with pytest.warns(UserWarning, match="tile_size 25 is 2.5 pixels at tile_scale = 0.1: .* 2, which span 20"):
        grey_model(tile_size=(25, 30), tile_scale=0.1)


def test_a_head_of_its_own_has_no_published_gradient():
    with pytest.raises(ValueError, match="gradient must be 'exact' with a pooling of its own; got 'ats'"):
        ZoomIn(2, 4, (8, 8), (16, 16), tile_scale=0.5, pooling=GatedAttentionPooling(32), gradient="ats")

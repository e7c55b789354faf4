"""Arbitrary arguments: a ValueError or a TypeError comes out, or an answer that keeps its promises."""

import math
from inspect import signature

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import zoomkern
from zoomkern import ImageBank, PinnedImage, Pyramid, Sample
from zoomkern.typing import PADDED_OFFSET

many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
SAMPLERS = {
    "gumbel": (None, "murthy", "desraj"),
    "threshold": (None, "inclusion"),
    "replacement": (None, "mean"),
    "topk": (None, "renormalised"),
}
FAR = [-(1 << 63), PADDED_OFFSET, PADDED_OFFSET + 1, -(1 << 32), 1 << 31, 1 << 62, (1 << 63) - 1]
# What callers pass by mistake. No value asks for more memory than a test has.
JUNK = [
    None, True, False, -1, 0, 3, 2.5, math.nan, math.inf, -math.inf, -0.0, 1 << 40, -(1 << 70), 10**400, 1j, "",
    "gumbel", "pad", "cpu", b"cpu", [], (), [1], (2, 3), (1.5, 2.5), [[1]], [None], ["a"], {}, {"a": 1}, {1, 2},
    range(2), object(), int, len, Ellipsis, torch.float32, torch.int32, torch.channels_last, torch.channels_last_3d,
    torch.device("cpu"), torch.Generator(), np.float32(2.5), np.int64(2), np.zeros(3), np.zeros((2, 3)),
    np.zeros((2, 1, 4, 5), np.uint8), torch.tensor(1), torch.tensor(math.nan), torch.zeros(0), torch.zeros(2),
    torch.zeros(2, 3), torch.zeros(2, 1, 4, 5), torch.zeros(2, 3, dtype=torch.int64), torch.full((2,), -5),
    torch.full((2,), 1 << 40), torch.zeros(2, 6, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.complex64),
    torch.zeros(2, 3, 2, dtype=torch.int64), torch.zeros(2, 3, 2, dtype=torch.int32), torch.zeros(2, 3).to_sparse(),
    torch.zeros(2, 3, device="meta"), torch.zeros(2, 3, dtype=torch.int64, device="meta"), torch.zeros(2, 6,
    requires_grad=True), [torch.zeros(1, 4, 5)], [torch.zeros(1, 4, 5), torch.zeros(2, 4, 5)],
    ImageBank([torch.zeros(1, 4, 5)]), ImageBank([torch.zeros(1, 4, 5)])[[0, 0]], PinnedImage(torch.zeros(1, 4, 5)),
    Pyramid([torch.zeros(1, 4, 5)]), Sample(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), torch.ones(2,
    3)), Sample(torch.zeros(2), torch.zeros(2, 3), None),
]  # fmt: skip


def spoil(draw, arguments, most=2):
    """Up to ``most`` arguments replaced by junk; which ones."""
    names = draw(st.sets(st.sampled_from(sorted(arguments)), max_size=most)) if draw(st.booleans()) else set()
    for name in sorted(names):
        arguments[name] = draw(st.sampled_from(JUNK))
    return arguments, bool(names)


def outcome(function, arguments, spoiled):
    """The answer, or None where the arguments were refused, as only spoiled ones may be."""
    try:
        return function(**arguments)
    except (ValueError, TypeError) as error:
        if not spoiled or not str(error):
            raise
        return None


numbers = st.one_of(
    st.floats(-5, 5, width=16), st.sampled_from([-math.inf, -1e4, 1e4, -3e38, 3e38, 1e-40, -0.0, 0.0]), st.just(0.0)
)


def tensor_of(draw, shape, elements=numbers, dtype=torch.float64):
    count = math.prod(shape)
    values = draw(st.lists(elements, min_size=count, max_size=count))
    return torch.tensor(values, dtype=dtype).reshape(shape)


@st.composite
def draws(draw, dtypes=(torch.float32, torch.float16, torch.bfloat16, torch.float64)):
    """Arguments of ``sample`` that are sane but for some that are spoiled."""
    batch, dtype = draw(st.integers(0, 3)), draw(st.sampled_from(dtypes))
    grid = draw(st.sampled_from([(6,), (1,), (2, 3), (4, 5), (1, 7), (300,)]))
    items = math.prod(grid)
    if items == 300:
        rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
        logits = torch.from_numpy(rng.normal(size=(batch, 300)) * draw(st.sampled_from([0.1, 3.0, 30.0])))
    else:
        logits = tensor_of(draw, (batch, *grid))
    logits = logits.clamp(max=torch.finfo(dtype).max / 3).to(dtype)  # which a temperature of 0.5 may double
    mask = tensor_of(draw, (batch, *grid), st.booleans(), torch.bool) if items < 9 and draw(st.booleans()) else None
    sampler = draw(st.sampled_from(sorted(SAMPLERS)))
    count = draw(st.integers(1, 9))
    arguments = {
        "logits": logits,
        "num_samples": count,
        "sampler": sampler,
        "estimator": draw(st.sampled_from(SAMPLERS[sampler])),
        "mask": mask,
        "temperature": draw(st.sampled_from([1.0, 1, 0.5, 30.0])),
        "on_short": "pad",
        "max_samples": None,
        "seed": draw(st.one_of(st.none(), st.integers(-(1 << 63), (1 << 64) - 1))),
        "generator": None,
    }
    if draw(st.booleans()):
        counts = st.integers(0, count)
        arguments |= {"num_samples": tensor_of(draw, (batch,), counts, torch.int64), "max_samples": count}
    if draw(st.booleans()):
        seeds = st.integers(-(1 << 63), (1 << 63) - 1)
        arguments["seed"] = tensor_of(draw, draw(st.sampled_from([(), (batch,)])), seeds, torch.int64)
    return arguments


def check_draw(drawn, logits, mask, temperature, sampler, wanted):
    """What :class:`Sample` promises of a draw of ``wanted [B]`` items."""
    scores = logits.flatten(1).double()
    if temperature != 1:
        scores = (scores / temperature).to(torch.promote_types(logits.dtype, torch.float32)).double()
    if mask is not None:
        scores = scores.masked_fill(~mask.flatten(1), -math.inf)
    index, log_prob, weight = drawn
    assert index.shape == log_prob.shape == weight.shape
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(weight).all()
    expected = torch.log_softmax(scores, 1)
    for b, row in enumerate(index.tolist()):
        drawable = int((scores[b] > -math.inf).sum())
        n = wanted[b] if sampler == "replacement" and drawable else min(wanted[b], drawable)
        items = row[:n]
        assert all(0 <= item < scores.shape[1] for item in items)
        assert row[n:] == [-1] * (len(row) - n)
        assert (scores[b, items] > -math.inf).all()
        assert sampler == "replacement" or len(set(items)) == n
        lowest = torch.finfo(log_prob.dtype).min
        torch.testing.assert_close(log_prob[b, :n].double(), expected[b, items].clamp(min=lowest), rtol=1e-5, atol=1e-5)
        assert (log_prob[b, n:] == 0).all()
        assert (weight[b, n:] == 0).all()
        assert (weight[b] >= 0).all()
        assert n == 0 or weight[b].double().sum().item() == pytest.approx(1, abs=1e-5)


def wanted_of(arguments):
    count, batch = arguments["num_samples"], arguments["logits"].shape[0]
    return count.tolist() if isinstance(count, torch.Tensor) else [int(count)] * batch


@many
@given(data=st.data())
def test_sample(backend, data):
    arguments, spoiled = spoil(data.draw, data.draw(draws()))

    drawn = outcome(lambda **given: zoomkern.sample(**given, backend=backend), arguments, spoiled)

    if drawn is not None:
        check_draw(
            drawn, *(arguments[name] for name in ("logits", "mask", "temperature", "sampler")), wanted_of(arguments)
        )


@many
@given(data=st.data())
def test_draw_weights(backend, data):
    made = data.draw(draws())
    made |= {"num_samples": 3, "max_samples": None, "seed": 1}
    drawn = zoomkern.sample(**made, backend=backend)
    names = ("logits", "sampler", "estimator", "mask", "temperature")
    arguments, spoiled = spoil(data.draw, {"index": drawn.index, **{name: made[name] for name in names}})

    given = outcome(lambda **given: zoomkern.draw_weights(**given, backend=backend), arguments, spoiled)

    if given is not None and not spoiled:
        for part, known in zip(given, drawn, strict=True):
            assert torch.equal(part, known)
    elif given is not None:
        assert torch.isfinite(given.log_prob).all()
        assert torch.isfinite(given.weight).all()


def brute_patch(image, y, x, size, step, mode, fill, scale, shift):
    """One pixel at a time."""
    channels, height, width = image.shape
    if mode == "shift":
        y, x = (
            at if at == PADDED_OFFSET else min(max(at, min(pixels - span, 0)), max(pixels - span, 0))
            for at, pixels, span in [(y, height, (size[0] - 1) * step + 1), (x, width, (size[1] - 1) * step + 1)]
        )
    out = np.empty((channels, *size), np.float32)
    for c, i, j in np.ndindex(out.shape):
        row, column = y + i * step, x + j * step
        inside = 0 <= row < height and 0 <= column < width
        pixel = np.float32(image[c, row, column].item() if inside else fill)
        out[c, i, j] = pixel * np.float32(scale) + np.float32(shift)
    return torch.from_numpy(out)


@st.composite
def reads(draw, batch):
    """Arguments of ``gather_patches`` but for the places."""
    channels, dtype = draw(st.integers(1, 2)), draw(st.sampled_from([torch.uint8, torch.uint16, torch.float32]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))

    def image(*size):
        return torch.from_numpy(rng.integers(0, 256, (channels, *size))).to(dtype)

    form = draw(st.sampled_from(["batch", "list", "bank", "pinned"] if batch else ["batch"]))
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=batch, max_size=batch))
    if form == "batch":
        images = (
            torch.stack([image(5, 7) for _ in range(batch)]) if batch else torch.zeros(0, channels, 5, 7, dtype=dtype)
        )
    else:
        images = [image(*size) for size in sizes]
    if form == "bank":
        images = ImageBank(images)[list(range(batch))[::-1]]
    elif form == "pinned":
        images = [PinnedImage(one) for one in images]
    return {
        "images": images,
        "patch_size": draw(st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 4)))),
        "level": None,
        "step": draw(st.integers(1, 4)),
        "padding_mode": draw(st.sampled_from(["constant", "shift"])),
        "fill": draw(st.sampled_from([0, 255, -1.5])),
        "scale": draw(st.sampled_from([None, 0.1, 2])),
        "shift": draw(st.sampled_from([None, -0.5])),
        "mean": None,
        "std": None,
        "dtype": torch.float32,
        "memory_format": draw(st.sampled_from([torch.contiguous_format, torch.channels_last])),
        "out": None,
    }


def check_patches(patches, offsets, arguments):
    """Patches against single pixels, where no argument is spoiled."""
    images, size = arguments["images"], arguments["patch_size"]
    if hasattr(images, "table"):
        images = [images.images[i] for i in images.ids.tolist()]
    size = (size, size) if isinstance(size, int) else size
    scale = 1.0 if arguments["scale"] is None else arguments["scale"]
    shift = 0.0 if arguments["shift"] is None else arguments["shift"]
    how = (size, arguments["step"], arguments["padding_mode"], arguments["fill"], scale, shift)
    for image, places, row in zip(images, offsets.tolist(), patches, strict=True):
        pixels = image.tensor if isinstance(image, PinnedImage) else image
        for (y, x), patch in zip(places, row, strict=True):
            assert torch.equal(patch, brute_patch(pixels, y, x, *how))


@many
@given(data=st.data())
def test_gather_patches(backend, data):
    batch, count = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 3))
    place = st.one_of(st.integers(-6, 12), st.sampled_from(FAR))
    offsets = tensor_of(data.draw, (batch, count, 2), place, torch.int64)
    arguments, spoiled = spoil(data.draw, {"offsets": offsets, **data.draw(reads(batch))})

    patches = outcome(lambda **given: zoomkern.gather_patches(**given, backend=backend), arguments, spoiled)

    if patches is not None:
        assert patches.shape[:2] == arguments["offsets"].shape[:2]
        assert not patches.isnan().any()
    if patches is not None and not spoiled:
        check_patches(patches, offsets, arguments)


@many
@given(data=st.data())
def test_sample_patches(backend, data):
    arguments = data.draw(draws())
    logits = arguments["logits"]
    arguments |= data.draw(reads(logits.shape[0]))
    arguments |= {"align": data.draw(st.sampled_from(["center", "corners"])), "locations": None}
    if logits.ndim == 2:
        place = st.one_of(st.integers(-6, 12), st.sampled_from(FAR))
        few = tensor_of(data.draw, (min(logits.shape[1], 9), 2), place, torch.int64)
        locations = few.repeat(math.ceil(logits.shape[1] / few.shape[0]), 1)[: logits.shape[1]]
        arguments["locations"] = locations.expand(len(logits), -1, -1) if data.draw(st.booleans()) else locations
    arguments, spoiled = spoil(data.draw, arguments)

    drawn = outcome(lambda **given: zoomkern.sample_patches(**given, backend=backend), arguments, spoiled)

    if drawn is not None:
        names = ("logits", "mask", "temperature", "sampler")
        check_draw(drawn.sample, *(arguments[name] for name in names), wanted_of(arguments))
        assert ((drawn.offsets == PADDED_OFFSET).all(-1) | (drawn.index >= 0)).all()
        assert not drawn.patches.isnan().any()
    if drawn is not None and not spoiled:
        check_patches(drawn.patches, drawn.offsets, arguments)


@many
@given(data=st.data())
def test_cell_offsets(data):
    grid, size = data.draw(st.tuples(*[st.integers(1, 9)] * 2)), data.draw(st.tuples(*[st.integers(1, 300)] * 2))
    batch, count = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
    index = tensor_of(data.draw, (batch, count), st.integers(-1, grid[0] * grid[1] - 1), torch.int64)
    patch, step = data.draw(st.tuples(*[st.integers(1, 40)] * 2)), data.draw(st.integers(1, 5))
    align = data.draw(st.sampled_from(["center", "corners"]))
    sane = {"index": index, "grid": grid, "image_size": size, "patch_size": patch, "step": step, "align": align}
    arguments, spoiled = spoil(data.draw, dict(sane))

    offsets = outcome(zoomkern.cell_offsets, arguments, spoiled)

    if offsets is None:
        return
    assert offsets.dtype == torch.int64
    assert offsets.shape == (*arguments["index"].shape, 2)
    if not spoiled:
        middle = offsets[index >= 0] + torch.tensor(patch) * step / 2
        assert (middle >= -1).all()
        assert (middle <= torch.tensor(size) + 1).all()
        assert (offsets[index < 0] == PADDED_OFFSET).all()


@st.composite
def samples(draw, *shape):
    """Any draw of that shape."""
    index = tensor_of(draw, shape, st.integers(-1, 5), torch.int64)
    log_prob = tensor_of(draw, shape, st.floats(-9, 0, width=32), torch.float32)
    return Sample(index, log_prob, torch.where(index < 0, 0.0, log_prob.exp() + 0.1))


@many
@given(data=st.data())
def test_expectation(backend, data):
    batch, count = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 4))
    rest = data.draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    sample = data.draw(samples(batch, count))
    features = tensor_of(data.draw, (batch, count, *rest), st.floats(-9, 9, width=32), torch.float32)
    baseline = data.draw(st.sampled_from([None, torch.ones(rest), torch.ones(batch, *rest)]))
    gradient = data.draw(st.sampled_from(["exact", "ats", "zoomin"]))
    sane = {"features": features, "sample": sample, "baseline": baseline, "gradient": gradient}
    arguments, spoiled = spoil(data.draw, sane)

    pooled = outcome(lambda **given: zoomkern.expectation(**given, backend=backend), arguments, spoiled)

    if pooled is not None and arguments["features"] is features and arguments["sample"] is sample:
        weight = sample.weight.reshape(batch, count, *[1] * len(rest))
        torch.testing.assert_close(pooled, (weight * features).sum(1), rtol=1e-4, atol=1e-4)


@many
@given(data=st.data())
def test_pooling_of_draws(data):
    batch, parents, count = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    shape = data.draw(st.sampled_from([(batch, parents, count), (batch * parents, count)]))
    outer, inner = data.draw(samples(batch, parents)), data.draw(samples(*shape))
    arguments, spoiled = spoil(data.draw, {"outer": outer, "inner": inner})
    both = outcome(zoomkern.compose, arguments, spoiled)
    if both is not None and not spoiled:
        product = outer.weight[..., None] * inner.weight.reshape(batch, parents, count)
        assert torch.equal(both.weight, product.flatten(1))

    arguments, spoiled = spoil(data.draw, {"sample": outer})
    merged = outcome(zoomkern.merge_repeats, arguments, spoiled)
    if merged is not None and not spoiled:
        for b, row in enumerate(outer.index.tolist()):
            distinct = list(dict.fromkeys(i for i in row if i >= 0))
            padding = [-1] * (parents - len(distinct))
            assert merged[0].index[b].tolist() == distinct + padding
            assert merged[1][b].tolist() == [row.count(i) for i in distinct] + [0] * len(padding)
            assert merged[0].weight[b].sum().item() == pytest.approx(outer.weight[b].sum().item(), abs=1e-5)

    values = tensor_of(data.draw, (batch, parents), st.floats(-9, 9, width=32))
    sampler = data.draw(st.sampled_from(["gumbel", "threshold", "replacement"]))
    arguments, spoiled = spoil(data.draw, {"values": values, "sample": outer, "sampler": sampler})
    given = outcome(zoomkern.estimate_total, arguments, spoiled)
    if given is not None and not spoiled:
        terms = torch.where(outer.index < 0, 0.0, outer.weight.double() * values / outer.log_prob.double().exp())
        torch.testing.assert_close(given[0], terms.sum(1), rtol=1e-6, atol=1e-6)
        assert (given[1].isnan() | (given[1] >= 0)).all()
        assert (given[1].isnan() == ((outer.index >= 0).sum(1) < 2)).all()


@many
@given(arguments=st.lists(st.sampled_from(JUNK), min_size=2, max_size=4), name=st.sampled_from(zoomkern.__all__))
@example(arguments=[[torch.zeros(1, 4, 5)], None], name="ImageBank")
def test_nothing_but_junk(arguments, name):
    function = getattr(zoomkern, name)
    if name in ("Sample", "SampledPatches", "ImageBatch"):
        return  # plain tuples
    if name in ("ImageBank", "PinnedImage", "Pyramid", "merge_repeats"):
        arguments = arguments[:1]
    outcome(function, dict(zip(signature(function).parameters, arguments, strict=False)), True)

"""What torch expects of an op: truthful schemas and shapes, right derivatives, compilation, checkpointing."""

import shutil
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import zoomkern
from zoomkern import ImageBank, Sample
from zoomkern.ops.library import SCHEMAS

ops = torch.ops.zoomkern
SAMPLERS = {"gumbel": 0, "threshold": 1, "replacement": 2, "topk": 3}
SEED = torch.tensor(7)
LOGIT_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
IMAGE_DTYPES = [torch.uint8, torch.uint16, *LOGIT_DTYPES]
FLOAT32, FLOAT64 = 4, 5  # their codes


def scores(dtype=torch.float32):
    return torch.linspace(-3, 3, 40).sin().reshape(2, 20).to(dtype)


def pixels(dtype=torch.uint8):
    return torch.arange(2 * 3 * 12 * 15).remainder(251).reshape(2, 3, 12, 15).to(dtype)


MASK = torch.arange(40).reshape(2, 20) % 3 != 1
COUNTS = torch.tensor([3, 1])
SEEDS = torch.tensor([1, -2])
OFFSETS = torch.tensor([[[0, 1], [-2, 9]], [[7, 7], [99, -99]]])
CONVERSION = torch.tensor([[1.0, 0.5, -2.0], [0.0, 1.0, 0.1], [0.0, 9.0, 4.0]], dtype=torch.float64)
PLACES = torch.arange(40).reshape(20, 2)
TABLE = ImageBank([*pixels()]).table  # of images that live as long as the module
READ = (4, 3, 2, False, FLOAT32, False)
READ_LAST = (4, 3, 1, True, FLOAT64, True)
INDEX = torch.tensor([[3, 0, 5], [10, 3, -1]])  # items that MASK leaves open


def patch_arguments(logits, images, table=None, locations=None, reading=READ, pad=False, mask=None, counts=None):
    grid = (0, 0) if locations is not None else (4, 5)
    draw = (logits, mask, SEED, counts, locations, CONVERSION, *grid, 0)
    return (images, table, *draw, 3, 0, 0, pad, *reading)


def pool_arguments(dtype):
    features = torch.linspace(-1, 1, 24).reshape(2, 3, 4).to(dtype)
    return features, torch.full((2, 3), -2.0), torch.full((2, 3), 0.4)


IMAGE_LIST = [pixels()[0], pixels()[1, :, :5]]
SAMPLES = {
    "draw_seed": [(torch.device("cpu"),)],
    "sample": [
        *[(scores(dtype), None, SEED, None, 3, 0, 0, False, 0) for dtype in LOGIT_DTYPES],
        *[(scores(), MASK, SEEDS, COUNTS, 3, code, 0, True, 5) for code in SAMPLERS.values()],
        (scores()[:0], None, SEED, None, 3, 0, 1, False, 0),
    ],
    "draw_weights": [
        *[(scores(dtype), None, INDEX, 0, 0) for dtype in LOGIT_DTYPES],
        (scores(), MASK, INDEX, 0, 1),
    ],
    "sample_backward": [
        (torch.ones(2, 3, dtype=kind), scores(dtype), MASK, INDEX, torch.ones(2, 2, dtype=torch.float64))
        for dtype in LOGIT_DTYPES
        for kind in [torch.float64 if dtype == torch.float64 else torch.float32]
    ],
    "gather_patches": [
        *[([pixels(dtype)], None, OFFSETS, CONVERSION, *READ) for dtype in IMAGE_DTYPES],
        (IMAGE_LIST, None, OFFSETS, CONVERSION, *READ_LAST),
        ([pixels().permute(0, 1, 3, 2)], None, OFFSETS, CONVERSION, *READ_LAST),
        ([], TABLE, OFFSETS, CONVERSION, *READ),
    ],
    "gather_patches_out": [
        (torch.zeros(2, 2, 3, 4, 3), [pixels()], None, OFFSETS, CONVERSION, *READ),
        (torch.zeros(2, 2, 4, 3, 3, dtype=torch.float64), [], TABLE, OFFSETS, CONVERSION, *READ_LAST),
    ],
    "gather_patches_backward": [
        *[(torch.ones(2, 2, 3, 4, 3), [pixels(dtype)], OFFSETS, CONVERSION, *READ) for dtype in LOGIT_DTYPES],
        (torch.ones(2, 2, 3, 4, 3), [image.float() for image in IMAGE_LIST], OFFSETS, CONVERSION, *READ),
    ],
    "sample_patches": [
        *[patch_arguments(scores(dtype), [pixels()]) for dtype in LOGIT_DTYPES],
        *[patch_arguments(scores(), [pixels(dtype)]) for dtype in IMAGE_DTYPES],
        patch_arguments(scores(), IMAGE_LIST, locations=PLACES, mask=MASK),
        patch_arguments(scores(), [], TABLE, reading=READ_LAST, counts=COUNTS, pad=True),
    ],
    "sample_patches_out": [
        (torch.zeros(2, 3, 3, 4, 3), *patch_arguments(scores(), [pixels()])),
        (torch.zeros(2, 3, 4, 3, 3, dtype=torch.float64), *patch_arguments(scores(), [], TABLE, reading=READ_LAST)),
    ],
    "expectation": [pool_arguments(dtype)[::2] for dtype in LOGIT_DTYPES],
    "expectation_backward": [
        (torch.ones(2, 4, dtype=dtype), *pool_arguments(dtype), baseline, gradient)
        for dtype in LOGIT_DTYPES
        for baseline, gradient in [(None, 0), (torch.ones(2, 4, dtype=dtype), 0), (None, 1), (None, 2)]
    ],
}


def test_every_op_that_takes_or_makes_tensors_has_samples():
    names = {schema.split("(")[0] for schema in SCHEMAS if "Tensor" in schema}

    assert names == set(SAMPLES)
    registered = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("zoomkern::")
    }
    assert {schema.split("(")[0] for schema in SCHEMAS} == registered


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(name, arguments, id=f"{name}-{i}")
        for name, listed in SAMPLES.items()
        for i, arguments in enumerate(listed)
    ],
)
def test_opcheck(native, name, arguments):
    results = torch.library.opcheck(getattr(ops, name).default, arguments)

    assert results == dict.fromkeys(
        ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"], "SUCCESS"
    )


# Derivatives, by finite differences in float64.


def double(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gradcheck_of_log_prob_towards_logits(backend, sampler):
    mask = torch.arange(12).reshape(2, 6) % 4 != 2
    draw = partial(zoomkern.sample, num_samples=3, sampler=sampler, mask=mask, temperature=0.7, seed=3, backend=backend)

    assert torch.autograd.gradcheck(lambda logits: draw(logits).log_prob, double(2, 6))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gradcheck_of_log_prob_of_a_draw_that_is_given(backend, sampler):
    index = torch.tensor([[4, 0, 1], [2, 5, -1]])

    assert torch.autograd.gradcheck(
        lambda logits: zoomkern.draw_weights(logits, index, sampler=sampler, backend=backend).log_prob, double(2, 6)
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_of_which_nothing_may_be_drawn_gets_no_gradient(backend, sampler):
    logits = torch.stack([torch.full((6,), -torch.inf), torch.arange(6.0)]).requires_grad_()

    drawn = zoomkern.sample(logits, 3, sampler=sampler, on_short="pad", seed=0, backend=backend)
    drawn.log_prob.sum().backward()

    assert (logits.grad[0] == 0).all()
    assert logits.grad[1].abs().max() > 0.1
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("form", ["batch", "list"])
@pytest.mark.parametrize("padding_mode", ["constant", "shift"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradcheck_of_patches_towards_images(backend, form, padding_mode, layout):
    offsets = torch.tensor([[[0, 0], [1, 2], [-1, 3]], [[1, 2], [1, 2], [9, 0]]])
    images = [double(2, 4, 5)] * 2 if form == "batch" else [double(2, 4, 5), double(2, 3, 7, seed=1)]

    def read(*images):
        batch = torch.stack(images) if form == "batch" else list(images)
        options = {"padding_mode": padding_mode, "memory_format": layout, "step": 2, "scale": (0.5, -3.0)}
        return zoomkern.gather_patches(batch, offsets, (2, 3), dtype=torch.float64, backend=backend, **options)

    assert torch.autograd.gradcheck(read, images)


def test_gradcheck_of_sample_patches_towards_images_and_logits(backend):
    def call(images, logits):
        drawn = zoomkern.sample_patches(images, logits, 3, 2, dtype=torch.float64, scale=2.0, seed=1, backend=backend)
        return drawn.patches, drawn.log_prob

    assert torch.autograd.gradcheck(call, (double(1, 2, 5, 6), double(1, 3, 4)))


@pytest.mark.parametrize("baseline", [False, True])
def test_gradcheck_of_expectation_towards_features(backend, baseline):
    sample = Sample(torch.tensor([[4, 0, -1]] * 2), double(2, 3, seed=1).detach(), double(2, 3, seed=2).detach())
    b = double(5, seed=3).detach() if baseline else None

    assert torch.autograd.gradcheck(
        lambda features: zoomkern.expectation(features, sample, baseline=b, backend=backend), double(2, 3, 5)
    )


class Held(torch.autograd.Function):
    """The formula of the expectation with the stopped value as a constant of its own; the gradient is the library's."""

    @staticmethod
    def forward(ctx, log_prob, features, weight, baseline, stopped, backend):
        ctx.save_for_backward(features, weight, baseline, stopped)
        ctx.backend = backend
        b = 0.0 if baseline is None else baseline[:, None]
        ratio = (weight * (log_prob - stopped).exp())[..., None]
        return (ratio * (features - b)).sum(1) + (weight[..., None] * b).sum(1)

    @staticmethod
    def backward(ctx, grad):
        features, weight, baseline, stopped = ctx.saved_tensors
        with torch.enable_grad():
            log_prob = stopped.detach().requires_grad_()
            sample = Sample(torch.zeros_like(weight, dtype=torch.int64), log_prob, weight)
            pooled = zoomkern.expectation(features, sample, baseline=baseline, backend=ctx.backend)
        return *torch.autograd.grad(pooled, log_prob, grad), None, None, None, None, None


@pytest.mark.parametrize("baseline", [False, True])
def test_gradcheck_of_the_attention_path_with_the_stopped_value_held(backend, baseline):
    log_prob, features = double(2, 3, seed=1), double(2, 3, 5).detach()
    weight = double(2, 3, seed=2).detach()
    b = double(2, 5, seed=3).detach() if baseline else None
    stopped = log_prob.detach().clone()

    assert torch.autograd.gradcheck(lambda lp: Held.apply(lp, features, weight, b, stopped, backend), log_prob)
    value = zoomkern.expectation(features, Sample(weight.long(), stopped, weight), baseline=b, backend=backend)
    torch.testing.assert_close(value, Held.apply(log_prob, features, weight, b, stopped, backend).detach())


# Compilation.


def train_step(images, logits, head, **options):
    """A loss and the draw behind it."""
    drawn = zoomkern.sample_patches(images, logits, 3, 8, mean=0.5, std=0.25, backend="cpu", **options)
    pooled = zoomkern.expectation(drawn.patches.flatten(2) @ head, drawn.sample, backend="cpu")
    return pooled.square().sum(), drawn.index


def both(function, compiled, leaves, *arguments):
    """Runs a step as it is and compiled, from the same state of torch's generator."""
    results = []
    for run in (function, compiled):
        torch.manual_seed(11)
        loss, index = run(*arguments)
        results.append((loss.detach(), index, *torch.autograd.grad(loss, leaves)))
    for expected, given in zip(*results, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(results[0][1], results[1][1])
    return results[0][1]


def compile_backend(name):
    if name == "inductor" and not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        pytest.skip("inductor needs a C++ compiler on the PATH")
    torch._dynamo.reset()
    return {"fullgraph": True, "dynamic": True, "backend": name}


SHAPES = [(2 + i, 3, 41 + 7 * i, 97 - 5 * i, 5 + i, 17 - i) for i in range(10)]


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_one_compilation_serves_ten_shapes(native, compiler):
    compiled = torch.compile(train_step, **compile_backend(compiler))
    head = torch.randn(192, 10, requires_grad=True)
    draws = []
    for i, (batch, channels, height, width, rows, columns) in enumerate(SHAPES):
        images = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)
        logits = torch.randn(batch, rows, columns, requires_grad=True)
        with torch._dynamo.config.patch(error_on_recompile=i > 0):
            draws.append(both(train_step, compiled, (logits, head), images, logits, head))
    assert [draw.shape[0] for draw in draws] == [shape[0] for shape in SHAPES]


def test_a_compiled_step_chooses_other_images_of_a_bank_without_recompiling(native):
    bank = ImageBank(
        [
            torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8),
            torch.rand(3, 55, 21),
            torch.rand(3, 8, 9, dtype=torch.float64),
        ]
    )

    def step(ids, logits):
        drawn = zoomkern.sample_patches(bank[ids], logits, 3, 8, scale=0.5, backend="cpu")
        loss = (drawn.patches.mean((2, 3, 4)) * drawn.log_prob).sum()
        return loss, drawn.index

    compiled = torch.compile(step, **compile_backend("aot_eager"))
    losses = []
    for i, ids in enumerate([[0, 1, 2], [2, 2, 0], [1, 0, 1]]):
        logits = torch.randn(3, 5, 7, requires_grad=True)
        with torch._dynamo.config.patch(error_on_recompile=i > 0):
            both(step, compiled, (logits,), torch.tensor(ids), logits)
            losses.append(compiled(torch.tensor(ids), torch.zeros(3, 5, 7))[0].item())
    assert len(set(losses)) == 3


def compiled_calls():
    images, logits = torch.rand(2, 3, 20, 30), torch.randn(2, 4, 5)
    places = torch.randint(0, 20, (20, 2))
    offsets = torch.randint(-9, 30, (2, 4, 2))
    counts, seeds = torch.tensor([3, 1]), torch.tensor([5, 6])
    mask = torch.rand(2, 4, 5) > 0.2
    out = torch.empty(2, 3, 3, 4, 6)
    draw, read = partial(zoomkern.sample, backend="cpu"), partial(zoomkern.gather_patches, backend="cpu")
    both, weigh = partial(zoomkern.sample_patches, backend="cpu"), partial(zoomkern.draw_weights, backend="cpu")
    index = torch.tensor([[3, 7], [1, -1]])
    return {
        "sample": lambda: tuple(draw(logits, 3)),
        "seed": lambda: tuple(draw(logits, 3, seed=4, temperature=0.5, mask=mask)),
        "seeds": lambda: tuple(draw(logits.flatten(1), 3, seed=seeds, sampler="threshold")),
        "counts": lambda: tuple(draw(logits, counts, max_samples=3, sampler="replacement")),
        "pad": lambda: tuple(draw(logits, 30, on_short="pad", sampler="topk")),
        "gather": lambda: read(images, offsets, (4, 6), fill=(1, 2, 3), step=2, padding_mode="shift"),
        "gather a list": lambda: read([images[0], images[1, :, 3:]], offsets, 5, dtype=torch.bfloat16),
        "gather, channels_last": lambda: read(images, offsets, 5, memory_format=torch.channels_last).contiguous(),
        "gather, out": lambda: read(images, offsets[:, :3], (4, 6), out=out).clone(),
        "patches": lambda: tuple(both(images, logits, 3, 4, scale=2.0, shift=[0.1, 0.2, 0.3])),
        "patches, out": lambda: both(images, logits, 3, (4, 6), out=out).patches.clone(),
        "locations": lambda: tuple(both(images, logits.flatten(1), 3, 4, locations=places)),
        "cells": lambda: zoomkern.cell_offsets(draw(logits, 3).index, (4, 5), (20, 30), 4),
        "total": lambda: tuple(zoomkern.estimate_total(torch.ones(2, 3), draw(logits, 3))),
        "stages": lambda: tuple(
            zoomkern.compose(
                zoomkern.merge_repeats(draw(logits, 3, sampler="replacement"))[0], draw(logits.reshape(8, 5)[:6], 2)
            )
        ),
        "weights": lambda: tuple(weigh(logits, index)),
    }


@pytest.mark.parametrize("name", compiled_calls())
def test_every_public_function_compiles_whole_and_draws_as_it_does_uncompiled(native, name):
    call = compiled_calls()[name]
    compiled = torch.compile(call, **compile_backend("aot_eager"))
    torch.manual_seed(3)
    expected = call()

    torch.manual_seed(3)
    given = compiled()

    torch.testing.assert_close(given, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gradients_pass_through_compiled_draws(native, sampler):
    index = torch.tensor([[3, 7], [1, -1]])

    def call(logits):
        drawn = zoomkern.sample(logits, 4, sampler=sampler, seed=3, backend="cpu")
        weighed = zoomkern.draw_weights(logits, index, sampler=sampler, backend="cpu")
        return drawn.log_prob.square().sum() + (weighed.log_prob * weighed.weight).sum(), drawn.index

    compiled = torch.compile(call, **compile_backend("aot_eager"))
    logits = torch.randn(2, 4, 5, requires_grad=True)
    both(call, compiled, (logits,), logits)


def test_numbers_that_change_are_no_constants_of_the_compiled_code(native):
    images, logits = torch.rand(2, 3, 20, 30), torch.randn(2, 4, 5)

    def call(scale, temperature, seed):
        return zoomkern.sample_patches(
            images, logits, 3, 4, scale=scale, temperature=temperature, seed=seed, backend="cpu"
        )

    compiled = torch.compile(call, **compile_backend("aot_eager"))
    for arguments in [(0.5, 0.7, 3), (0.25, 1.7, 4), (2.0, 1.0, 5)]:
        for given, expected in zip(compiled(*arguments), call(*arguments), strict=True):
            assert torch.equal(given, expected)


# Modes of torch.


def test_the_seed_comes_from_torch_s_generator(backend):
    logits = torch.zeros(1, 1000)
    torch.manual_seed(5)
    first, second = (zoomkern.sample(logits, 20, backend=backend).index for _ in range(2))
    torch.manual_seed(5)

    assert torch.equal(zoomkern.sample(logits, 20, backend=backend).index, first)
    assert not torch.equal(first, second)
    own = [zoomkern.sample(logits, 20, generator=torch.Generator().manual_seed(8), backend=backend) for _ in range(2)]
    assert torch.equal(own[0].index, own[1].index)
    assert torch.equal(zoomkern.sample(logits, 20, backend=backend).index, second)  # which left torch's own alone


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_draws_again_what_it_drew(backend, reentrant):
    images, head = torch.rand(2, 3, 40, 40), torch.randn(192, 5, requires_grad=True)
    logits = torch.randn(2, 6, 6, requires_grad=True)
    draws = []

    def block(logits: Tensor) -> Tensor:
        drawn = zoomkern.sample_patches(images, logits, 5, 8, backend=backend)
        draws.append(drawn.index)
        return zoomkern.expectation((drawn.patches.flatten(2) @ head).tanh(), drawn.sample, backend=backend)

    torch.manual_seed(1)
    expected = torch.autograd.grad(block(logits).square().sum(), logits)[0]
    torch.manual_seed(1)
    checkpoint(block, logits, use_reentrant=reentrant).square().sum().backward()

    assert len(draws) == 3
    assert torch.equal(draws[1], draws[0])
    assert torch.equal(draws[2], draws[0])
    assert torch.equal(logits.grad, expected)


def test_deterministic_mode_serves_the_whole_step_and_repeats_it(backend):
    images = torch.rand(2, 3, 30, 30, requires_grad=True)
    logits = torch.randn(2, 6, 6, requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for _ in range(2):
            drawn = zoomkern.sample_patches(images, logits, 9, 12, seed=3, backend=backend)
            pooled = zoomkern.expectation(drawn.patches.flatten(2), drawn.sample, backend=backend)
            results.append(torch.autograd.grad(pooled.cos().sum(), (images, logits)))
    finally:
        torch.use_deterministic_algorithms(False)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
        assert first.abs().sum() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_draw_is_the_same(backend, mode):
    images, logits = torch.rand(2, 3, 30, 30), torch.randn(2, 6, 6, requires_grad=True)
    expected = zoomkern.sample_patches(images, logits, 5, 4, seed=3, backend=backend)

    with mode():
        given = zoomkern.sample_patches(images, logits, 5, 4, seed=3, backend=backend)

    assert expected.log_prob.requires_grad
    assert not given.log_prob.requires_grad
    for part, known in zip(given, expected, strict=True):
        assert torch.equal(part, known)


def test_only_log_prob_and_patches_of_float_images_carry_gradients(backend):
    logits = torch.randn(2, 6, 6, requires_grad=True)
    for images, learned in [(pixels(), False), (torch.rand(2, 3, 9, 9), False), (double(2, 3, 9, 9), True)]:
        drawn = zoomkern.sample_patches(images, logits, 5, 4, seed=3, backend=backend)
        assert drawn.log_prob.requires_grad
        assert drawn.patches.requires_grad == learned
        assert not drawn.weight.requires_grad


def test_autocast_changes_nothing(backend):
    images, logits = torch.rand(2, 3, 30, 30), torch.randn(2, 6, 6)
    features = torch.randn(2, 5, 7)
    expected = zoomkern.sample_patches(images, logits, 5, 4, seed=3, backend=backend)

    with torch.autocast("cpu", torch.bfloat16):
        given = zoomkern.sample_patches(images, logits, 5, 4, seed=3, backend=backend)
        pooled = zoomkern.expectation(features, given.sample, backend=backend)

    for part, known in zip(given, expected, strict=True):
        assert torch.equal(part, known)
    assert torch.equal(pooled, zoomkern.expectation(features, expected.sample, backend=backend))


SECOND = {
    "sample": lambda x, b: zoomkern.sample(x, 3, seed=1, backend=b).log_prob,
    "sample_patches": lambda x, b: (
        zoomkern.sample_patches(torch.zeros(2, 1, 9, 9), x[:, None], 2, 3, seed=1, backend=b).log_prob
    ),
    "gather_patches": lambda x, b: zoomkern.gather_patches(x[:, None, None], OFFSETS[:, :1] * 0, 1, backend=b),
    "expectation": lambda x, b: zoomkern.expectation(x[:, :3, None], zoomkern.sample(x, 3, seed=1, backend=b)),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_second_derivative_is_refused_rather_than_zero(name, native):
    x = scores().requires_grad_()
    (grad,) = torch.autograd.grad(SECOND[name](x, native).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"second derivatives|differentiate twice"):
        grad.square().sum().backward()
    x = scores().requires_grad_()
    (grad,) = torch.autograd.grad(SECOND[name](x, native).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        grad.square().sum().backward()

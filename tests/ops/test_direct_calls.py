"""The ops called without the public functions: what could reach foreign memory is refused, in every build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zoomkern.images.bank import ImageBank

ops = torch.ops.zoomkern

pytestmark = pytest.mark.usefixtures("native")

LOGITS, SEED = torch.zeros(2, 6), torch.tensor(3)
INDEX, LSE = torch.tensor([[0, 1], [2, 3]]), torch.zeros(2, 2, dtype=torch.float64)
GRAD = torch.ones(2, 2)
IMAGES, OFFSETS = torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 2, dtype=torch.int64)
CONVERSION = torch.tensor([[1.0] * 3, [0.0] * 3, [0.0] * 3], dtype=torch.float64)
READING = (4, 4, 1, False, 4, False)


def sample(
    logits: Tensor = LOGITS,
    mask: Any = None,
    seed: Any = SEED,
    counts: Any = None,
    n: int = 2,
    sampler: int = 0,
    estimator: int = 0,
) -> Any:
    return ops.sample(logits, mask, seed, counts, n, sampler, estimator, False, 0)


def weigh(index: Tensor, logits: Tensor = LOGITS) -> Any:
    return ops.draw_weights(logits, None, index, 0, 0)


def backward(grad: Tensor = GRAD, index: Tensor = INDEX, lse: Tensor = LSE) -> Any:
    return ops.sample_backward(grad, LOGITS, None, index, lse)


def gather(offsets: Tensor = OFFSETS, images: Any = (IMAGES,), table: Any = None, reading: Any = READING) -> Any:
    return ops.gather_patches(list(images), table, offsets, CONVERSION, *reading)


def draw_and_read(locations: Tensor) -> Any:
    drawing = (0, 0, 0, 2, 0, 0, False)
    return ops.sample_patches([IMAGES], None, LOGITS, None, SEED, None, locations, CONVERSION, *drawing, *READING)


def test_the_calls_work_with_what_they_ask_for() -> None:
    sample(), weigh(INDEX), backward(), gather(), gather(images=(), table=ImageBank(list(IMAGES)).table)
    draw_and_read(torch.zeros(6, 2, dtype=torch.int64)), draw_and_read(torch.zeros(2, 6, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda: sample(LOGITS[0]), ".", id="logits-1d"),
        pytest.param(lambda: sample(LOGITS.long()), ".", id="logits-int"),
        pytest.param(lambda: sample(LOGITS.byte()), "floating point", id="logits-uint8"),
        pytest.param(lambda: sample(sampler=9), "unknown sampler", id="sampler-unknown"),
        pytest.param(lambda: sample(estimator=2), "unknown estimator", id="estimator-unknown"),
        pytest.param(lambda: weigh(INDEX, LOGITS - torch.inf), "may be drawn", id="index-masked"),
        pytest.param(lambda: sample(mask=torch.ones(2, 6)), "mask must be bool", id="mask-float"),
        pytest.param(lambda: sample(mask=torch.ones(6, dtype=torch.bool)), "mask", id="mask-1d"),
        pytest.param(lambda: sample(seed=SEED.int()), "seed must be int64", id="seed-int32"),
        pytest.param(lambda: sample(seed=SEED.double()), "seed must be int64", id="seed-float"),
        pytest.param(lambda: sample(seed=torch.zeros(3, dtype=torch.int64)), "seed", id="seed-long"),
        pytest.param(lambda: sample(counts=torch.ones(2)), "counts must be int64", id="counts-float"),
        pytest.param(lambda: sample(counts=torch.tensor([1, 99])), "counts", id="counts-large"),
        pytest.param(lambda: sample(n=-1), "num_samples", id="num-samples-negative"),
        pytest.param(lambda: weigh(INDEX.int()), "index must be int64", id="index-int32"),
        pytest.param(lambda: weigh(INDEX + 4), "index must be -1 or an item", id="index-large"),
        pytest.param(lambda: weigh(torch.tensor([[-1, 1], [2, 3]])), "behind the items", id="index-gap"),
        pytest.param(lambda: weigh(INDEX[0]), "index", id="index-1d"),
        pytest.param(lambda: backward(index=INDEX + (1 << 40)), "index", id="backward-index-large"),
        pytest.param(lambda: backward(index=INDEX.int()), "index", id="backward-index-int32"),
        pytest.param(lambda: backward(lse=LSE[:0]), "lse", id="lse-empty"),
        pytest.param(lambda: backward(lse=LSE.float()), "lse", id="lse-float32"),
        pytest.param(lambda: backward(grad=torch.ones(2, 1)), "grad_log_prob", id="grad-narrow"),
        pytest.param(lambda: backward(grad=torch.ones(4)), "grad_log_prob", id="grad-1d"),
        pytest.param(lambda: gather(OFFSETS.int()), "offsets must be int64", id="offsets-int32"),
        pytest.param(lambda: gather(OFFSETS.to(torch.int8)), "offsets must be int64", id="offsets-int8"),
        pytest.param(lambda: gather(OFFSETS[..., :1]), "offsets", id="offsets-one-axis"),
        pytest.param(lambda: gather(images=(), table=torch.zeros(2, 8)), "table must be int64", id="table-float"),
        pytest.param(lambda: gather(images=(), table=torch.zeros(2, 7).long()), "table", id="table-narrow"),
        pytest.param(lambda: gather(images=(IMAGES[:1],)), "images", id="images-few"),
        pytest.param(lambda: gather(reading=(4, 4, 1 << 31, False, 4, False)), "step", id="step-huge"),
        pytest.param(lambda: gather(reading=(4, 4, 1, False, 0, False)), "dtype", id="dtype-uint8"),
        pytest.param(lambda: draw_and_read(torch.zeros(6, 2).int()), "locations must be int64", id="locations-int32"),
        pytest.param(lambda: draw_and_read(torch.zeros(1, 6, 2).long()), "locations", id="locations-one-row"),
        pytest.param(lambda: draw_and_read(torch.zeros(2, 12).long()), "locations", id="locations-flat"),
    ],
)
def test_what_could_read_garbage_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        call()

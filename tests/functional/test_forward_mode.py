"""Forward-mode derivatives are the reference's, or refused: never dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import zoomkern

LOGITS = torch.tensor([[0.3, -1.0, 2.0, 0.5, 0.0]], dtype=torch.float64)
IMAGES = torch.rand(1, 2, 9, 9, dtype=torch.float64)
OFFSETS = torch.tensor([[[0, 1], [4, 6]]])
SAMPLE = zoomkern.sample(LOGITS, 3, seed=1)
FEATURES = torch.rand(1, 3, 4, dtype=torch.float64)

CALLS = {
    "sample": (lambda x, b: zoomkern.sample(x, 3, seed=1, backend=b).log_prob, LOGITS),
    "draw_weights": (lambda x, b: zoomkern.draw_weights(x, SAMPLE.index, backend=b).log_prob, LOGITS),
    "gather_patches": (lambda x, b: zoomkern.gather_patches(x, OFFSETS, 4, dtype=x.dtype, backend=b), IMAGES),
    "sample_patches": (
        lambda x, b: zoomkern.sample_patches(IMAGES, x[:, None], 2, 3, seed=1, backend=b).log_prob,
        LOGITS,
    ),
    "expectation": (lambda x, b: zoomkern.expectation(x, SAMPLE, backend=b), FEATURES),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_tangent_is_the_directional_derivative(name: str, native: str) -> None:
    call: Callable[[Tensor, str | None], Tensor]
    call, x = CALLS[name]
    direction = torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    value, tangent = torch.func.jvp(lambda at: call(at, None), (x,), (direction,))
    step = 1e-6
    difference = (call(x + step * direction, native) - call(x - step * direction, native)) / (2 * step)
    assert float(difference.abs().max()) > 1e-3
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(value, call(x, native))


@pytest.mark.parametrize("name", CALLS)
def test_a_compiled_backend_refuses_dual_numbers(name: str, native: str) -> None:
    call, x = CALLS[name]
    with forward_ad.dual_level(), pytest.raises(ValueError, match="no forward-mode derivatives"):
        call(forward_ad.make_dual(x, torch.ones_like(x)), native)

"""Losses around an attention."""

import math

import pytest
import torch

from zoomkern.losses import attention_entropy, entropy_regulariser


def test_uniform_attention_has_the_logarithm_of_the_number_of_cells():
    torch.testing.assert_close(attention_entropy(torch.full((2, 3, 5), 7.0)), torch.full((2,), math.log(15)))


def test_entropy_equals_the_textbook_sum():
    logits = torch.randn(4, 6, dtype=torch.float64)
    p = logits.softmax(1)
    torch.testing.assert_close(attention_entropy(logits), -(p * p.log()).sum(1))


@pytest.mark.parametrize("peak", [200.0, 1e4, 1e30])
def test_collapsed_attention_has_zero_entropy_and_finite_gradients(peak):
    logits = torch.zeros(1, 8)
    logits[0, 2] = peak
    logits.requires_grad_()
    entropy = attention_entropy(logits)
    entropy.sum().backward()
    assert entropy.item() == 0
    assert logits.grad.isfinite().all()


def test_masked_places_do_not_count():
    logits = torch.randn(2, 5, dtype=torch.float64)
    masked = torch.cat([logits, torch.full((2, 3), -torch.inf, dtype=torch.float64)], 1).requires_grad_()
    entropy = attention_entropy(masked)
    torch.testing.assert_close(entropy, attention_entropy(logits))
    entropy.sum().backward()
    assert masked.grad.isfinite().all()
    assert torch.equal(masked.grad[:, 5:], torch.zeros(2, 3, dtype=torch.float64))


def test_gradients_are_right():
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: entropy_regulariser(z, 0.3), (logits,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    logits = torch.randn(2, 4096).to(dtype)
    entropy = attention_entropy(logits)
    assert entropy.dtype == torch.float32
    torch.testing.assert_close(entropy, attention_entropy(logits.float()))


def test_the_regulariser_is_the_mean_over_every_image_of_the_batch():
    logits = torch.randn(5, 7)
    whole = entropy_regulariser(logits, 0.2)
    torch.testing.assert_close(whole, torch.stack([entropy_regulariser(row[None], 0.2) for row in logits]).mean())
    torch.testing.assert_close(whole, -0.2 * attention_entropy(logits).mean())


def test_following_the_regulariser_spreads_attention():
    logits = torch.tensor([[3.0, 0.0, 0.0]], requires_grad=True)
    entropy_regulariser(logits, 1.0).backward()
    assert attention_entropy(logits - 0.1 * logits.grad) > attention_entropy(logits)


def test_an_empty_batch_costs_nothing():
    assert entropy_regulariser(torch.zeros(0, 4, 4), 1.0) == 0


def test_logits_need_a_batch():
    with pytest.raises(ValueError, match=r"logits .*\[9\]"):
        attention_entropy(torch.zeros(9))

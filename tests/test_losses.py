"""Losses around an attention."""

import math

import pytest
import torch
from torch.nn import functional as F

from zoomkern.losses import attention_entropy, entropy_regulariser, in_sample_contrastive, supervised_attention


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


def test_of_masked_places_no_attention_is_asked():
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [1.0, 2.0, -torch.inf]], requires_grad=True)
    loss = supervised_attention(logits, torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]))
    expected = (math.log(2) + math.log(math.e + math.e**2) - 1) / 2
    assert float(loss) == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


def test_a_row_that_is_masked_teaches_nothing_and_nan_is_not_hidden():
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]], requires_grad=True)
    loss = supervised_attention(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert float(loss) == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert supervised_attention(torch.zeros(1, 3), torch.tensor([[math.nan, 1.0, 0.0]])).isnan()


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


def test_attention_that_is_masked_everywhere_has_no_entropy():
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]], requires_grad=True)
    torch.testing.assert_close(attention_entropy(logits), torch.tensor([math.log(2), 0.0]))
    (gradient,) = torch.autograd.grad(entropy_regulariser(logits, 1.0), logits)
    assert gradient.isfinite().all()


def test_logits_are_floating_point():
    with pytest.raises(TypeError, match="logits must be float32 or"):
        attention_entropy(torch.zeros(2, 4, dtype=torch.int64))


def test_logits_need_a_batch():
    with pytest.raises(ValueError, match=r"logits .*\[9\]"):
        attention_entropy(torch.zeros(9))


class TestInSampleContrastive:
    def test_it_is_the_mean_of_minus_log_one_minus_psi_over_the_positive_images(self):
        scores, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 3, 0, 2, 1])
        positive = labels != 0
        psi = scores.softmax(1)[torch.arange(6), labels]
        torch.testing.assert_close(in_sample_contrastive(scores, labels), -(1 - psi[positive]).log().mean())
        other = in_sample_contrastive(scores, labels, negative=1)
        torch.testing.assert_close(other, -(1 - psi[labels != 1]).log().mean())

    def test_towards_the_negative_class_it_is_the_cross_entropy_to_it(self):
        scores, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([2, 1, 3, 0, 2, 1])
        wanted = F.cross_entropy(scores[labels != 2], torch.full((4,), 2))
        torch.testing.assert_close(in_sample_contrastive(scores, labels, 2, to_negative=True), wanted)

    def test_with_two_classes_both_forms_are_the_same(self):
        scores, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
        torch.testing.assert_close(
            in_sample_contrastive(scores, labels), in_sample_contrastive(scores, labels, to_negative=True)
        )

    @pytest.mark.parametrize("to_negative", [False, True])
    def test_gradients_are_right_and_reach_no_negative_image(self, to_negative):
        labels = torch.tensor([0, 1, 2, 0])
        scores = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s: in_sample_contrastive(s, labels, to_negative=to_negative), (scores,))
        (gradient,) = torch.autograd.grad(in_sample_contrastive(scores, labels, to_negative=to_negative), scores)
        assert torch.equal(gradient[labels == 0], torch.zeros(2, 3, dtype=torch.float64))

    @pytest.mark.parametrize("to_negative", [False, True])
    def test_a_certain_class_gives_a_finite_loss_and_a_gradient_that_does_not_vanish(self, to_negative):
        scores = torch.tensor([[0.0, 1e4, 0.0]], requires_grad=True)
        loss = in_sample_contrastive(scores, torch.tensor([1]), to_negative=to_negative)
        loss.backward()
        torch.testing.assert_close(loss.item(), 1e4, rtol=1e-3, atol=0)
        assert scores.grad[0, 1] == 1
        assert scores.grad.isfinite().all()

    @pytest.mark.parametrize("number", [0, 3])
    def test_without_positive_images_it_is_zero(self, number):
        scores = torch.randn(number, 2, requires_grad=True)
        loss = in_sample_contrastive(scores, torch.zeros(number, dtype=torch.int64))
        loss.backward()
        assert loss == 0
        assert not scores.grad.any()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        scores, labels = torch.randn(4, 3).to(dtype), torch.tensor([1, 2, 0, 1])
        loss = in_sample_contrastive(scores, labels)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, in_sample_contrastive(scores.float(), labels))

    def test_bad_arguments_are_named(self):
        labels = torch.tensor([0, 1])
        with pytest.raises(ValueError, match=r"scores must be \[B, K\] with K at least 2; got \[2, 1\]"):
            in_sample_contrastive(torch.zeros(2, 1), labels)
        with pytest.raises(ValueError, match=r"labels must be int64 \[B\] = \[2\]; got torch.float32 \[2\]"):
            in_sample_contrastive(torch.zeros(2, 2), labels.float())
        with pytest.raises(ValueError, match=r"labels must be int64 \[B\] = \[3\]"):
            in_sample_contrastive(torch.zeros(3, 2), labels)
        for wrong in (-100, 2):
            with pytest.raises(ValueError, match="labels must be classes below 2; got"):
                in_sample_contrastive(torch.zeros(2, 2), torch.tensor([0, wrong]), to_negative=True)
        with pytest.raises(ValueError, match="negative must be a class below 2; got 2"):
            in_sample_contrastive(torch.zeros(2, 2), labels, negative=2)

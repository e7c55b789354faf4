"""The perturbed top-k."""

import pytest
import torch
from scipy import integrate, stats

from zoomkern.nn import perturbation
from zoomkern.nn.perturbation import gaussian_noise, perturbed_topk
from zoomkern.reference.random import MASK32

SIGMA = 0.7
LOGITS = (0.3, -0.4, 0.9)


def smallest(logits, item):
    """Probability that ``item`` is the smallest of three under the noise, by quadrature."""
    others = [j for j in range(3) if j != item]

    def density(z):
        above = [stats.norm.sf((logits[item] - logits[j]) / SIGMA + z) for j in others]
        return stats.norm.pdf(z) * above[0] * above[1]

    return integrate.quad(density, -9, 9, epsabs=1e-12)[0]


def exact(logits, direction):
    """``<direction, E[topk(logits + sigma Z)]>`` for the 2 largest of 3: the set is all but the smallest."""
    total = 0.0
    for item in range(3):
        slots = [j for j in range(3) if j != item]
        total += smallest(logits, item) * (direction[0][slots[0]] + direction[1][slots[1]])
    return total


def test_value_and_gradient_are_those_of_the_smoothed_top_k():
    """Against quadrature, within five standard errors: a false alarm once in 4e5 runs over other seeds."""
    direction = torch.randn(2, 3, dtype=torch.float64)
    number, rows = 1000, 400
    logits = torch.tensor(LOGITS, dtype=torch.float64).expand(rows, 3).clone().requires_grad_()
    hit, indicators = perturbed_topk(logits, 2, num_noise=number, sigma=SIGMA, seed=3)
    assert hit.all()  # so that the columns are the items
    values = (indicators * direction).sum((1, 2))
    values.sum().backward()

    def close(samples, wanted):
        error = samples.std(0) / rows**0.5
        return ((samples.mean(0) - wanted).abs() < 5 * error).all()

    assert close(values.detach(), exact(LOGITS, direction))
    step, slopes = 1e-4, []
    for item in range(3):
        up, down = list(LOGITS), list(LOGITS)
        up[item] += step
        down[item] -= step
        slopes.append((exact(up, direction) - exact(down, direction)) / (2 * step))
    wanted = torch.tensor(slopes, dtype=torch.float64)
    assert close(logits.grad, wanted)
    assert wanted.abs().max() > 20 * logits.grad.std(0).max() / rows**0.5  # so that a factor of k would be seen


@pytest.mark.parametrize("number", [2, 5])
def test_the_gradient_is_that_of_the_samples_with_the_others_as_baseline(number):
    logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    seeds = torch.tensor([5, 9])
    hit, indicators = perturbed_topk(logits, 3, num_noise=number, sigma=SIGMA, seed=seeds)
    weight = torch.randn_like(indicators)
    (indicators * weight).sum().backward()
    noise = gaussian_noise(seeds, number, 6)
    for row in range(2):
        items = hit[row].nonzero().flatten().tolist()
        samples = []
        for z in noise[row]:
            chosen = (logits[row].detach() + SIGMA * z).topk(3).indices.sort().values.tolist()
            samples.append(sum(weight[row, j, items.index(item)] for j, item in enumerate(chosen)))
        s = torch.stack(samples)
        others = (s.sum() - s) / (number - 1)
        wanted = ((s - others)[:, None] * noise[row]).mean(0) / SIGMA
        torch.testing.assert_close(logits.grad[row], wanted)


def test_indicators_are_shares_of_the_items_that_were_hit_in_ascending_order():
    logits = torch.randn(4, 30)
    hit, indicators = perturbed_topk(logits, 3, num_noise=8, sigma=0.5, seed=0)
    assert indicators.shape == (4, 3, 24)
    torch.testing.assert_close(indicators.sum(2), torch.ones(4, 3))
    used = indicators.sum(1) > 0
    assert torch.equal(used.sum(1), hit.sum(1))
    assert (used[:, :-1] >= used[:, 1:]).all()  # padding is behind
    place = torch.arange(24.0)
    assert ((indicators * place).sum(2).diff(dim=1) > 0).all()  # slots hold ascending items


def test_hardly_any_noise_gives_the_largest_items_themselves():
    logits = torch.randn(3, 50).double()
    hit, indicators = perturbed_topk(logits, 4, num_noise=5, sigma=1e-9, seed=0)
    wanted = logits.topk(4).indices.sort(1).values
    assert torch.equal(hit.nonzero()[:, 1].view(3, 4), wanted)
    torch.testing.assert_close(indicators[..., :4], torch.eye(4).double().expand(3, 4, 4))
    assert (indicators[..., 4:] == 0).all()


def test_an_image_has_the_same_noise_in_any_batch():
    logits, seeds = torch.randn(4, 12), torch.arange(4)
    hit, indicators = perturbed_topk(logits, 2, num_noise=10, seed=seeds)
    again = perturbed_topk(logits[2:], 2, num_noise=10, seed=seeds[2:])
    assert torch.equal(again.hit, hit[2:])
    assert torch.equal(again.indicators, indicators[2:])


def test_without_a_seed_torch_draws_one():
    logits = torch.randn(2, 40)
    torch.manual_seed(1)
    first, other = perturbed_topk(logits, 2).indicators, perturbed_topk(logits, 2).indicators
    torch.manual_seed(1)
    assert torch.equal(perturbed_topk(logits, 2).indicators, first)
    assert not torch.equal(first, other)


def test_the_noise_is_standard_normal():
    """Kolmogorov and Smirnov's test at a false-alarm rate of 1e-4, on all numbers and on a lag of one."""
    noise = gaussian_noise(torch.tensor([11]), 100, 501)[0].flatten()
    assert noise.isfinite().all()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(((noise[1:] - noise[:-1])[::2] / 2**0.5).numpy(), "norm").pvalue > 1e-4


def test_the_outermost_bits_give_finite_noise_alike_on_both_sides(monkeypatch):
    """In float32 the last of them would round to a probability of 1, and the noise to infinity."""
    words = torch.tensor([0, MASK32]), torch.tensor([MASK32, 0])
    monkeypatch.setattr(perturbation, "philox", lambda counter, seed: tuple(w[None] for w in (*words, *words)))
    noise = gaussian_noise(torch.tensor([0]), 1, 8)[0, 0]
    assert noise.dtype == torch.float64
    tail = stats.norm.isf(0.5 / 2**32)
    torch.testing.assert_close(noise, tail * torch.tensor([-1.0, 1, -1, 1, 1, -1, 1, -1]).double())


def test_half_precision_logits_get_a_gradient_of_their_type():
    logits = torch.randn(2, 9).bfloat16().requires_grad_()
    indicators = perturbed_topk(logits, 2, num_noise=4, seed=0).indicators
    assert indicators.dtype == torch.float32
    indicators[..., 0].sum().backward()
    assert logits.grad.dtype == torch.bfloat16


def test_a_second_derivative_is_refused():
    logits = torch.randn(1, 5, requires_grad=True)
    indicators = perturbed_topk(logits, 2, num_noise=4, seed=0).indicators
    (gradient,) = torch.autograd.grad((indicators**2).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"k": 0}, "k must"),
        ({"k": 6}, "k must be at most 5"),
        ({"num_noise": 1}, "num_noise"),
        ({"sigma": 0.0}, "sigma"),
        ({"logits": torch.zeros(1, 2, 2)}, r"flatten\(1\)"),
        ({"seed": torch.zeros(3, dtype=torch.int64)}, "seed"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        perturbed_topk(**{"logits": torch.zeros(2, 5), "k": 2, **arguments})


def test_integer_logits_are_refused():
    with pytest.raises(TypeError, match="logits must be float32"):
        perturbed_topk(torch.zeros(2, 5, dtype=torch.int64), 2)

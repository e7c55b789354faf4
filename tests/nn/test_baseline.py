"""The running-mean baseline."""

import pytest
import torch

import zoomkern
from zoomkern.nn import RunningMeanBaseline


def test_it_hands_out_the_mean_of_the_steps_before_this_one():
    baseline = RunningMeanBaseline(2, momentum=0.1)
    steps = torch.rand(5, 3, 2)
    for number, pooled in enumerate(steps):
        expected = steps[:number].mean((0, 1)) if number else torch.zeros(2)
        torch.testing.assert_close(baseline(), expected)
        baseline.update(pooled)


def test_later_it_forgets_exponentially():
    baseline = RunningMeanBaseline(1, momentum=0.5)
    for value in (4.0, 8.0, 0.0):
        baseline.update(torch.full((2, 1), value))
    torch.testing.assert_close(baseline(), torch.tensor([3.0]))  # ((4 + 8) / 2 + 0) / 2


def test_an_update_leaves_what_was_handed_out_alone():
    baseline = RunningMeanBaseline(3)
    held = baseline()
    baseline.update(torch.ones(2, 3))
    assert torch.equal(held, torch.zeros(3))


@pytest.mark.parametrize("case", ["evaluation", "empty batch"])
def test_nothing_is_learnt_in_evaluation_or_from_nothing(case):
    baseline = RunningMeanBaseline(3)
    baseline.update(torch.ones(2, 3))
    baseline.train(case != "evaluation")
    baseline.update(torch.full((2 if case == "evaluation" else 0, 3), 9.0))
    assert torch.equal(baseline(), torch.ones(3))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_step_that_overflowed_is_not_learnt_from(value):
    baseline = RunningMeanBaseline(3)
    baseline.update(torch.ones(2, 3))
    baseline.update(torch.tensor([[1.0, value, 1.0], [1.0, 1.0, 1.0]]))
    assert torch.equal(baseline(), torch.ones(3))
    baseline.update(torch.zeros(2, 3))
    torch.testing.assert_close(baseline(), torch.full((3,), 0.5))


@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 3, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"pooled must be \[B, D\] = \[4, 3\]"):
        RunningMeanBaseline(3).update(torch.rand(shape))


def test_it_keeps_no_graph():
    baseline = RunningMeanBaseline(3)
    baseline.update(torch.ones(2, 3, requires_grad=True))
    assert not baseline().requires_grad


def test_the_pooled_value_and_the_features_gradient_stay_and_the_attentions_gradient_gets_quieter():
    torch.manual_seed(0)
    logits = torch.randn(200, 12, dtype=torch.float64, requires_grad=True)
    features = (torch.rand(12, 4, dtype=torch.float64) + 5).requires_grad_()  # a large common part
    baseline = RunningMeanBaseline(4).double()
    baseline.update(features.detach())
    sample = zoomkern.sample(logits, 3, seed=1)
    chosen = features[sample.index]
    plain = zoomkern.expectation(chosen, sample)
    quiet = zoomkern.expectation(chosen, sample, baseline=baseline())
    torch.testing.assert_close(quiet, plain)
    of_plain = torch.autograd.grad(plain.sum(), (logits, features), retain_graph=True)
    of_quiet = torch.autograd.grad(quiet.sum(), (logits, features))
    torch.testing.assert_close(of_quiet[1], of_plain[1])
    assert of_quiet[0].square().mean() < 0.1 * of_plain[0].square().mean()


def test_the_running_mean_is_saved_with_the_model():
    baseline = RunningMeanBaseline(2)
    baseline.update(torch.ones(1, 2))
    again = RunningMeanBaseline(2)
    again.load_state_dict(baseline.state_dict())
    assert torch.equal(again(), torch.ones(2))


@pytest.mark.parametrize("momentum", [0.0, -1.0, 1.5])
def test_momentum_must_be_a_share(momentum):
    with pytest.raises(ValueError, match="momentum"):
        RunningMeanBaseline(2, momentum)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_compiled_step_learns_and_differentiates_as_an_eager_one(steps):
    """A compiled backward pass may compute what was handed out again: it must not find the updated mean."""

    def step(baseline, features, log_prob):
        sample = zoomkern.Sample(torch.zeros(2, 3, dtype=torch.int64), log_prob, torch.full((2, 3), 1 / 3))
        pooled = zoomkern.expectation(features, sample, baseline=baseline())
        baseline.update(pooled)
        return pooled.square().sum()

    results = []
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        baseline, generator = RunningMeanBaseline(4), torch.Generator().manual_seed(0)
        for _ in range(steps):
            features = torch.rand(2, 3, 4, generator=generator)
            log_prob = torch.zeros(2, 3, requires_grad=True)
            run(baseline, features, log_prob).backward()
        results.append((log_prob.grad, baseline.mean.clone(), baseline.steps.clone()))
    for wanted, given in zip(*results, strict=True):
        torch.testing.assert_close(given, wanted)

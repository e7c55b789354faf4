"""Figures over the classes that are there."""

import pytest
import torch

from zoomkern.training.metrics import BalancedAccuracy, PresentAUROC


def looked(metric, probability, labels):
    metric.update(torch.tensor(probability), torch.tensor(labels))
    return float(metric.compute())


def test_an_absent_class_does_not_count():
    probability = [[0.8, 0.1, 0.1], [0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.2, 0.0, 0.8]]
    labels = [0, 0, 2, 2]  # the third is taken for the absent class
    assert looked(BalancedAccuracy(3), probability, labels) == pytest.approx(0.75)
    first, last = 1.0, 0.875  # of pairs: .3 and .3 are a tie
    assert looked(PresentAUROC(3), probability, labels) == pytest.approx((first + last) / 2)


def test_where_all_classes_are_there_they_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(60, 4, generator=generator).softmax(1)
    labels = torch.randint(4, (60,), generator=generator)
    auc = metrics.roc_auc_score(labels, probability.double(), multi_class="ovr")
    assert looked(PresentAUROC(4), probability.tolist(), labels.tolist()) == pytest.approx(auc, abs=1e-6)
    balanced = metrics.balanced_accuracy_score(labels, probability.argmax(1))
    assert looked(BalancedAccuracy(4), probability.tolist(), labels.tolist()) == pytest.approx(balanced, abs=1e-6)


def test_one_class_alone_has_no_curve():
    assert torch.tensor(looked(PresentAUROC(2), [[0.1, 0.9], [0.8, 0.2]], [1, 1])).isnan()
    assert looked(BalancedAccuracy(2), [[0.1, 0.9], [0.8, 0.2]], [1, 1]) == 0.5

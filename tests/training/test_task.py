import warnings
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from zoomkern.losses import attention_entropy, in_sample_contrastive
from zoomkern.models import BagNet, DenseNetwork, IterativePatchSelection
from zoomkern.nn import AttentionNetwork, LeNet
from zoomkern.training.annotations import annotation_loss
from zoomkern.training.batches import chosen, collate
from zoomkern.training.task import ClassificationTask
from zoomkern.training.views import ViewedImages, Views


class Losses(L.Callback):
    def __init__(self):
        self.figures = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.figures.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_a_network_learns(small, tmp_path):
    torch.manual_seed(0)
    task = ClassificationTask(
        small.network(),
        2,
        lambda parameters: torch.optim.Adam(parameters, 0.05),
        score_scale=10.0,
        contrast=0.5,
        contrast_from=5,
    )
    _, data = small.parts(small.Squares(48), batch_size=8)
    curve = Losses()
    fit = small.trainer(tmp_path, 20, callbacks=[curve])
    fit.fit(task, datamodule=data)
    assert curve.figures[-1]["train_loss"] < 0.35 < 0.6 < curve.figures[0]["train_loss"]
    assert curve.figures[-1]["val_accuracy"] >= 0.75
    assert "train_contrast" not in curve.figures[4]
    assert "train_contrast" in curve.figures[5]
    (figures,) = fit.test(task, datamodule=data, verbose=False)
    assert set(figures) == {"test_loss", "test_accuracy", "test_balanced_accuracy", "test_auc"}
    assert sum(map(sum, task.confused)) == len(data.indices["test"])
    fit.test(task, datamodule=data, verbose=False)  # each test counts anew
    assert sum(map(sum, task.confused)) == len(data.indices["test"])


def test_the_loss_is_what_the_docstring_says(small, tmp_path):
    task, data = small.parts(batch_size=12, validation=0.25)
    task.model.train()
    task.trainer = small.trainer(tmp_path)
    data.trainer = task.trainer
    batch = next(iter(data.train_dataloader()))
    task.entropy, task.contrast, task.contrast_from = 0.1, 0.5, 0
    states = {name: value.clone() for name, value in task.state_dict().items()}
    task.log = lambda *_, **__: None  # no loop is running
    loss = task.training_step(batch, 0)
    task.load_state_dict(states)
    torch.manual_seed(batch.noise)
    view = batch.view / 255 / 0.2 - 1  # mean and deviation 0.2
    out = task.model(batch.images, view, batch.tile_view, seed=batch.seed)
    drawn = out.tiles.index >= 0
    inside = attention_entropy(out.tile_attention.flatten(0, 1)).view_as(drawn)
    inside = torch.stack([row[there].mean() for row, there in zip(inside, drawn, strict=True)]).mean()
    rows = [i for i, label in enumerate(batch.classes) if label == 1]
    contrast = task.model.contrast(
        [batch.images[i] for i in rows], view[rows], [batch.tile_view[i] for i in rows], seed=batch.seed[rows]
    )
    expected = (
        torch.nn.functional.cross_entropy(out.scores, batch.labels)
        - 0.1 * (attention_entropy(out.attention).mean() + inside)
        + 0.5 * in_sample_contrastive(contrast.scores, batch.labels[rows])
    )
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_a_dense_rival_trains_by_the_same_task(small, tmp_path):
    torch.manual_seed(0)
    task = ClassificationTask(DenseNetwork(2, in_channels=1), 2)
    _, data = small.parts()
    small.trainer(tmp_path, 1).fit(task, datamodule=data)
    with pytest.raises(ValueError, match="contrast needs a network with a contrastive pass; got DenseNetwork"):
        ClassificationTask(DenseNetwork(2, in_channels=1), 2, contrast=1.0)


def first_step(small, folder, task):
    """The loss of a first step, and the batch and output that it is of."""
    _, data = small.parts(batch_size=12)
    task.trainer = data.trainer = small.trainer(folder)
    task.log = lambda *_, **__: None  # no loop is running
    batch = next(iter(data.train_dataloader()))
    return task.training_step(batch, 0), batch, task(batch)


def test_shares_of_kept_patches_are_no_logits_of_an_attention(small, tmp_path):
    loss, batch, out = first_step(small, tmp_path, ClassificationTask(small.selection(), 2, entropy=1.0))
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(out.scores, batch.labels))


def test_entropy_and_supervision_take_the_logits_of_a_perturbed_top_k(small, tmp_path):
    task = ClassificationTask(small.perturbed(), 2, entropy=0.1, supervision=0.5)
    loss, batch, out = first_step(small, tmp_path, task)
    expected = (
        torch.nn.functional.cross_entropy(out.scores, batch.labels)
        - 0.1 * attention_entropy(out.attention).mean()
        + 0.5 * annotation_loss(batch, out, task.model)
    )
    assert torch.allclose(loss, expected)


@pytest.mark.parametrize("kind", [IterativePatchSelection, DenseNetwork, BagNet])
def test_supervision_needs_an_attention_over_a_grid(small, kind):
    models = {IterativePatchSelection: small.selection, DenseNetwork: lambda: DenseNetwork(2)}
    model = models.get(kind, lambda: BagNet(2, 17, pooling="attention"))()
    with pytest.raises(ValueError, match=f"supervision needs a network with an .* grid; got {kind.__name__}"):
        ClassificationTask(model, 2, supervision=1.0)


@pytest.mark.parametrize(
    ("processes", "first", "batch_norm", "joint", "warned"),
    [
        (2, True, True, False, 1),
        (1, True, True, False, 0),
        (2, False, True, False, 0),
        (2, True, False, False, 0),
        (2, True, True, True, 0),
    ],
)
def test_a_batch_norm_that_is_not_joint_is_warned_of_once(small, processes, first, batch_norm, joint, warned):
    network = small.network(LeNet(1, batch_norm=batch_norm))
    task = ClassificationTask(torch.nn.SyncBatchNorm.convert_sync_batchnorm(network) if joint else network, 2)
    task.trainer = SimpleNamespace(world_size=processes, is_global_zero=first)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        task.on_fit_start()
    assert len(found) == warned
    assert all("--trainer.sync_batchnorm=true" in str(warning.message) for warning in found)


def test_predictions_name_every_test_image_once(small, tmp_path):
    task, data = small.parts(num_folds=3)
    predictions = small.trainer(tmp_path).predict(task, datamodule=data)
    assert sorted(torch.cat([p.index for p in predictions]).tolist()) == sorted(data.indices["test"])
    assert torch.allclose(torch.cat([p.probability for p in predictions]).sum(1), torch.ones(4))


def test_the_learning_rate_rises_and_falls(small, tmp_path):
    rates = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / 1e-3)

    task, data = small.parts()
    task.warmup = 3
    small.trainer(tmp_path, 3, callbacks=[Rates()]).fit(task, datamodule=data)
    steps = torch.arange(9).double()
    expected = ((steps + 1) / 3).clamp(max=1) * (0.5 + 0.5 * torch.cos(torch.pi * steps / 9))
    assert torch.allclose(torch.tensor(rates).double(), expected)


@pytest.mark.parametrize("to_negative", [False, True])
def test_both_forms_of_the_contrastive_loss(small, monkeypatch, to_negative):
    views = ViewedImages(small.Squares(), Views(0.25, tile_scale=0.5), 0)
    batch = collate([views[i, 1] for i in range(4)])
    torch.manual_seed(0)
    network = small.network()
    network.classifier = torch.nn.Linear(8, 3)  # with two classes the forms are the same
    task = ClassificationTask(network, 3, contrast=2.0, contrast_to_negative=to_negative)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    loss = task._contrast(batch, [1, 3], 0.5)
    part = chosen(batch, [1, 3])
    scores = task._call(task.model.contrast, part).scores
    forms = [in_sample_contrastive(scores, part.labels, 0, to_negative=form) for form in (to_negative, not to_negative)]
    torch.testing.assert_close(loss, forms[0])  # by where tensors lie in memory it may gain a bit
    assert not torch.allclose(loss, forms[1])


def test_attention_over_one_place_has_no_complement(small, tmp_path):
    task, data = small.parts()
    task.model.tile_attention = AttentionNetwork(1, (4,), pool=12)
    with pytest.raises(ValueError, match=r"contrast needs 2 places or more .*; tile_attention has a grid of \[1, 1\]"):
        small.trainer(tmp_path).fit(task, datamodule=data)


def test_tiles_have_the_scale_that_their_network_takes(small, tmp_path):
    task, data = small.parts(tile_scale=0.25)
    with pytest.raises(ValueError, match="tile_scale must be one number .*; got 0.5 in model.*, and 0.25 in data"):
        small.trainer(tmp_path).fit(task, datamodule=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linear"}, "schedule must be one of 'constant', 'cosine'; got 'linear'"),
        ({"class_weights": [1.0]}, "class_weights must be 2, one for each class; got 1"),
        ({"warmup": -1}, "warmup must be between 0"),
        ({"contrast_to_negative": True, "negative": None}, "contrast_to_negative needs the class of images without"),
    ],
)
def test_bad_arguments(small, options, message):
    with pytest.raises(ValueError, match=message):
        ClassificationTask(small.network(), 2, **options)

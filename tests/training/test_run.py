"""The commands, from the words of the command line to the files of the run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
import yaml

from zoomkern.cli.main import main
from zoomkern.training.checkpoints import load_checkpoint
from zoomkern.training.curves import read_curves
from zoomkern.training.divisions import division_table, require_unseen
from zoomkern.training.recipes import nearest
from zoomkern.training.task import ClassificationTask


@pytest.fixture(autouse=True)
def _no_words_of_the_process(monkeypatch):
    """Lightning compares its words with those of the process."""
    monkeypatch.setattr(sys, "argv", ["zoomkern"])


@pytest.fixture
def zoomkern(recipe, tmp_path):
    """Runs a command in the folder "run"."""

    def run(command, *words, config=None):
        return main([command, "--config", str(config or recipe), "--folder", str(tmp_path / "run"), *words])

    return run


def complaint(capsys, call, *arguments, **options):
    """What a command that fails says last; it ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        call(*arguments, **options)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.rstrip().splitlines()[-1]


def curves(folder, version=0):
    with open(folder / "curves" / f"version_{version}" / "metrics.csv") as file:
        return list(csv.DictReader(file))


def figures(folder, command):
    return json.loads((folder / f"{command}.json").read_text())


def test_fit_validate_test_and_predict(zoomkern, recipe, pictures, tmp_path, capsys):
    folder = tmp_path / "run"
    assert zoomkern("fit") == 0
    losses = [float(row["val_loss"]) for row in curves(folder) if row["val_loss"]]
    assert len(losses) == 2
    assert {"train_loss", "val_accuracy", "val_auc", "val_balanced_accuracy"} <= curves(folder)[0].keys()
    assert list((folder / "tensorboard").rglob("events.out.*"))
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 6
    best = load_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert best["epoch"] == losses.index(min(losses))

    settings = folder / "config.yaml"  # the run's own says everything
    assert yaml.safe_load(settings.read_text())["data"]["images"]["init_args"]["root"] == str(pictures)
    assert zoomkern("validate", config=settings) == 0
    assert figures(folder, "validate")["val_loss"] == pytest.approx(min(losses), abs=1e-6)
    with pytest.warns(UserWarning, match="There are no test images .* validation images, which chose"):
        assert zoomkern("test", config=settings) == 0
    with open(folder / "confusion.csv") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == ["none", "square"]
    counts = np.array([row[1:] for row in rows], dtype=int)
    assert counts.sum(1).tolist() == [3, 3]
    assert figures(folder, "test")["test_accuracy"] == pytest.approx(np.trace(counts) / 6)
    assert zoomkern("predict", config=settings) == 0
    with open(folder / "predictions.csv") as file:
        table = list(csv.DictReader(file))
    assert len({row["image"] for row in table}) == 6
    for row in table:
        assert row["image"].startswith(row["label"] + "/")
        assert float(row["none"]) + float(row["square"]) == pytest.approx(1, abs=1e-6)
        assert row["predicted"] == max(("none", "square"), key=lambda name: float(row[name]))
        assert len(row["places"].split("; ")) == 9
    found = np.zeros((2, 2), dtype=int)
    for row in table:
        found[head[1:].index(row["label"]), head[1:].index(row["predicted"])] += 1
    assert (found == counts).all()
    said = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("Written: ")]
    names = ["weights.safetensors", "curves.png", "validate.json", "test.json", "confusion.csv", "predictions.csv"]
    assert said == [str(folder / name) for name in [*names, "pictures"]]
    assert all(os.path.exists(path) for path in said)
    assert len(list((folder / "curves").iterdir())) == 1  # looking draws no curves


def test_a_folder_that_holds_a_run_is_left_alone(zoomkern, tmp_path, capsys):
    zoomkern("fit", "--trainer.max_epochs=1")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "run' holds a run. Give --resume true, or another --folder." in complaint(capsys, zoomkern, "fit")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    zoomkern("fit", "--resume", "true", "--trainer.max_epochs=3", "--model.schedule=constant")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["epoch"] == 2
    assert {row["epoch"] for row in curves(tmp_path / "run", 1)} == {"1", "2"}


def test_a_run_that_never_began_is_in_nobodys_way(zoomkern, capsys):
    assert "num_samples must be between 1" in complaint(capsys, zoomkern, "fit", "--model.model.num_samples=-1")
    assert zoomkern("fit", "--trainer.max_epochs=1") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.images.root=/nowhere"], "zoomkern fit: '/nowhere' is no folder"),
        (["--model.schedule=linear"], "zoomkern fit: schedule must be one of 'constant', 'cosine'; got 'linear'."),
        (["--model.sharpness=3"], "--model.sharpness=3"),
        (["--model.warmup=often"], "often"),
        (["--data.view_size=[3,3]"], "zoomkern fit: give one of view_scale and view_size; got 0.25 and (3, 3)."),
        (["--trainer.precision=3"], "3"),
        (["--monitor=watched_accuracy", "--data.watch_test=true"], "zoomkern fit: monitor must be one of 'val_loss', "),
        (["--monitor=val_los"], "zoomkern fit: monitor must be one of 'val_loss', "),
        (["--mode=least"], "zoomkern fit: mode must be one of 'min', 'max'; got 'least'."),
        (["--save_every=-1"], "zoomkern fit: save_every must be between 0"),
        (["--data.batch_size=0"], "zoomkern fit: batch_size must be between 1"),
    ],
)
def test_bad_words(zoomkern, capsys, words, message):
    assert message in complaint(capsys, zoomkern, "fit", *words)


@pytest.mark.parametrize(
    "where", ["", "model", "trainer", "data", "data.images.init_args", "model.optimizer.init_args"]
)
def test_an_unknown_key_is_named(zoomkern, recipe, tmp_path, capsys, where):
    config = yaml.safe_load(recipe.read_text())
    part = config
    for name in where.split(".") if where else []:
        part = part[name]
    part["colour_of_the_sky"] = 3
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as ended:
        zoomkern("fit", config=bad)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "colour_of_the_sky" in error
    assert len(error.splitlines()) <= 4  # not the sixty lines of all options
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_recipe_that_is_missing_or_no_yaml(zoomkern, tmp_path, capsys):
    assert "nowhere.yaml" in complaint(capsys, zoomkern, "fit", config=tmp_path / "nowhere.yaml")
    bad = tmp_path / "bad.yaml"
    for text, message in (
        ("model: 1\ndata: [", "bad.yaml' is no YAML in line 2, column 8: "),
        ("image,label\na.png,1\n", "bad.yaml' holds no options, so it is no recipe."),
        ("", "bad.yaml' holds no options"),
    ):
        bad.write_text(text)
        assert message in complaint(capsys, zoomkern, "fit", config=bad)
    bad.write_bytes(b"model: \xff\xfe")
    assert "bad.yaml' is no YAML: 'utf-8' codec" in complaint(capsys, zoomkern, "fit", f"--config={bad}")


@pytest.mark.parametrize(
    ("harm", "workers", "resident"),
    [
        ("missing", 0, True),
        ("empty", 0, True),
        ("truncated", 0, True),
        ("truncated", 0, False),
        ("truncated", 1, True),
        ("truncated", 1, False),
        ("truncated", 1, "views"),
    ],
)
def test_a_bad_picture_is_named(zoomkern, pictures, tmp_path, capsys, harm, workers, resident):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    for path in (root / "none").iterdir():  # so that some are in every part
        if harm == "missing":
            path.unlink()
            path.symlink_to("/nowhere.png")
        else:
            path.write_bytes(b"" if harm == "empty" else path.read_bytes()[:900])
    words = [f"--data.images.root={root}", f"--data.num_workers={workers}", f"--data.resident={str(resident).lower()}"]
    said = complaint(capsys, zoomkern, "fit", *words)
    assert said.startswith("zoomkern fit: ")
    assert str(root / "none") in said


def test_weights_of_another_network(zoomkern, tmp_path, capsys):
    assert "there is no file" in complaint(capsys, zoomkern, "test")
    zoomkern("fit", "--trainer.max_epochs=1")
    settings = (tmp_path / "run" / "config.yaml").read_bytes()
    last = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    for command, words in (("test", []), ("fit", ["--resume=true"])):
        said = complaint(capsys, zoomkern, command, *words, "--model.model.features.channels=[16]")
        assert "holds the weights of another network" in said
        assert "baseline.mean' first: [8] instead of [16]" in said
    assert (tmp_path / "run" / "config.yaml").read_bytes() == settings
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == last


def test_a_malicious_checkpoint_is_refused_and_runs_nothing(zoomkern, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "written"), "w")

    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": {}, "loops": Evil()}, last)
    assert "one that could run code" in complaint(capsys, zoomkern, "fit", "--resume=true")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "metrics.csv"])
def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(zoomkern, tmp_path, capsys, monkeypatch, name):
    zoomkern("fit", "--trainer.max_epochs=1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    sync = os.fsync

    def full(file):
        if f".{name}." in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    said = complaint(capsys, zoomkern, "fit", "--resume=true", "--trainer.max_epochs=3")
    assert said.startswith("zoomkern fit: [Errno 28] No space left on device: ")
    assert said.endswith(f"{name}'")
    assert last.read_bytes() == before
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["zoomkern"])
    assert zoomkern("fit", "--resume=true", "--trainer.max_epochs=3") == 0


@pytest.mark.parametrize("command", ["fit", "test", "cross-validate"])
def test_a_missing_library_is_named_with_its_extra(zoomkern, tmp_path, capsys, monkeypatch, command):
    for name in [name for name in sys.modules if name.startswith("zoomkern.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    words = [f"--output={tmp_path}"] if command == "cross-validate" else []
    said = complaint(capsys, main, [command, *words])
    assert said == f"zoomkern {command}: training needs torchmetrics: pip install 'zoomkern[train]'"


def test_training_stops_when_nothing_is_gained(zoomkern, tmp_path):
    counted = ("--monitor=val_accuracy", "--mode=max")  # a loss may gain the last bit, by where its tensors lie
    zoomkern("fit", "--patience=2", "--trainer.max_epochs=30", "--model.optimizer.lr=0", *counted)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["epoch"] == 2
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["epoch"] == 0
    last = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    zoomkern("fit", "--resume=true", "--patience=2", "--trainer.max_epochs=30", "--model.optimizer.lr=0", *counted)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == last  # it does not train on
    zoomkern("fit", "--resume=true", "--trainer.max_epochs=5", "--model.optimizer.lr=0", *counted)  # unless told to
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["epoch"] == 4


def test_the_weights_that_are_kept_are_those_that_were_chosen(zoomkern, tmp_path):
    """Averaged ones where weights are averaged: they were validated."""
    averaged = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"
    zoomkern("fit", averaged, "--trainer.callbacks.decay=0.9", "--trainer.max_epochs=4")
    losses = [float(row["val_loss"]) for row in curves(tmp_path / "run") if row["val_loss"]]
    zoomkern("validate")
    assert figures(tmp_path / "run", "validate")["val_loss"] == pytest.approx(min(losses), abs=1e-6)
    last = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    current = last["current_model_state"]
    assert any(not torch.equal(value, current[name]) for name, value in last["state_dict"].items())


@pytest.mark.parametrize("steps", [2, 5, 1000])
def test_the_last_checkpoint_is_that_of_the_last_step(zoomkern, tmp_path, steps):
    zoomkern("fit", f"--save_every={steps}")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_epochs_without_validation_are_kept_too(zoomkern, tmp_path):
    zoomkern("fit", "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=3")
    last, best = (load_checkpoint(tmp_path / "run" / "checkpoints" / f"{name}.ckpt") for name in ("last", "best"))
    assert (last["epoch"], best["epoch"]) == (2, 1)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("fit", ["--resume=true", "--data.fold=1"], "data.fold must be 0, with which the run in "),
        ("fit", ["--resume=true", "--data.batch_size=5"], "or it went on with other images, batches or draws; got 5."),
        ("fit", ["--resume=true", "--seed_everything=3"], "seed_everything must be 0, "),
        (
            "fit",
            ["--resume=true", "--trainer.accumulate_grad_batches=2"],
            "trainer.accumulate_grad_batches must be 1, ",
        ),
        ("fit", ["--resume=true", "--model.optimizer.lr=0.001"], "or it went on with that of its checkpoint all the"),
        ("fit", ["--resume=true", "--trainer.limit_train_batches=1"], "trainer.limit_train_batches must be None, "),
        ("test", ["--data.fold=1"], "or it was tested on images that trained it; got 1. Give the same"),
        ("validate", ["--data.division=1"], "data.division must be 0, "),
        ("predict", ["--data.num_folds=3"], "data.num_folds must be 2, "),
    ],
)
def test_a_run_keeps_to_its_images(zoomkern, small, tmp_path, capsys, command, words, message):
    folds = ["--data.num_folds=2", "--data.fold=0", "--trainer.max_epochs=1"]
    zoomkern("fit", *folds)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    assert message in complaint(capsys, zoomkern, command, *folds, *words)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    free = ["--resume=true", "--data.resident=false"] if command == "fit" else []
    assert zoomkern(command, *folds, *free) == 0
    other = small.save_pictures(tmp_path / "other")  # any images may be looked at
    if command == "test":
        assert zoomkern("test", *folds, f"--data.images.root={other}", "--data.fold=1") == 0


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_images_that_trained_are_known_by_their_files(zoomkern, pictures, tmp_path, capsys, command):
    folds = ["--data.num_folds=2", "--data.fold=0", "--trainer.max_epochs=1"]
    zoomkern("fit", *folds)
    with open(tmp_path / "run" / "images.csv") as file:
        rows = list(csv.DictReader(file))
    assert [{row["split"] for row in rows}, len(rows)] == [{"train", "validation", "test"}, 24]
    assert all(row["file"] == os.path.realpath(pictures / row["image"]) for row in rows)

    def looked_at(*splits):
        """The command on a table of those images, by another name."""
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(pictures)
        chosen = [row["image"] for row in rows if row["split"] in splits]
        lines = [f"{name},{name.partition('/')[0]}" for name in chosen]
        (tmp_path / "table.csv").write_text("\n".join(["image,label", *lines]) + "\n")
        init = json.dumps({"table": str(tmp_path / "table.csv"), "root": str(link)})
        images = ["--data.images=zoomkern.data.ImageTable", f"--data.images.init_args={init}"]
        return [command, *images, "--data.validation=0.5"]

    assert " images to look at trained the run in " in complaint(capsys, zoomkern, *looked_at("train"))
    assert zoomkern(*looked_at("test")) == 0


def test_another_set_without_files_is_warned_of(small, tmp_path):
    then, now = (f"data: {{images: {{class_path: {name}}}}}" for name in ("Circles", "Squares"))
    (tmp_path / "config.yaml").write_text(then)
    data = small.parts()[1]
    (tmp_path / "images.csv").write_text(division_table(data))
    where = (tmp_path / "config.yaml", tmp_path / "images.csv")
    with pytest.warns(UserWarning, match="data.images is another set than the run in .* was trained with"):
        require_unseen(*where, now, data, "test")
    require_unseen(*where, then, data, "test")


def test_what_a_run_lacks_is_said(zoomkern, tmp_path, capsys):
    with pytest.warns(UserWarning, match="run' holds no checkpoint: training starts anew"):
        assert zoomkern("fit", "--resume=true", "--trainer.max_epochs=1") == 0
    channels = ["--model.model.features.init_args.in_channels=3", "--model.model.attention.init_args.in_channels=3"]
    said = complaint(capsys, zoomkern, "fit", "--folder", str(tmp_path / "other"), *channels)
    assert "view must be [..., C, h, w] with C = 3 channels, in_channels of this network; got [6, 1, 12, 12]." in said


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "9 bytes.",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."), "Tried to allocate 9 GiB."),
    ],
)
def test_memory_that_does_not_suffice_is_said_in_a_line(zoomkern, capsys, monkeypatch, error, message):
    def exhausted(*_):
        raise error

    monkeypatch.setattr(ClassificationTask, "training_step", exhausted)
    said = complaint(capsys, zoomkern, "fit")
    assert f"{message} Fewer --data.batch_size or samples, a smaller view, or images in their files" in said


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupt_says_how_to_go_on(zoomkern, tmp_path, capsys, monkeypatch, epoch):
    step = ClassificationTask.training_step

    def interrupted(task, *given):
        if task.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(task, *given)

    monkeypatch.setattr(ClassificationTask, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        zoomkern("fit")
    signal.signal(signal.SIGINT, handler)  # Lightning's end ignores it
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert last.exists() == (epoch > 0)
    said = f"the same command with --resume true goes on from {str(last)!r}." if epoch else "there is no checkpoint"
    assert said in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["zoomkern"])
    assert zoomkern("fit", "--resume=true") == 0


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_path_written_in_another_way_is_the_same_images(zoomkern, pictures, tmp_path, capsys, monkeypatch, command):
    folds = ["--data.num_folds=2", "--trainer.max_epochs=1"]
    zoomkern("fit", *folds)
    resume = ["--resume=true"] if command == "fit" else []
    monkeypatch.chdir(pictures.parent)
    same = [*folds, *resume, f"--data.images.root=./{pictures.name}"]
    assert zoomkern(command, *same) == 0
    assert "data.fold must be 0, " in complaint(capsys, zoomkern, command, *same, "--data.fold=1")


def test_a_checkpoint_is_not_taken_for_weights(zoomkern, tmp_path, capsys):
    zoomkern("fit", "--trainer.max_epochs=1")
    (tmp_path / "run" / "weights.safetensors").unlink()  # as where training was interrupted
    assert "finish it with --resume true" in complaint(capsys, zoomkern, "test")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert "is a checkpoint" in complaint(capsys, zoomkern, "test", f"--weights={best}")


def test_no_epoch_at_all_leaves_no_curves(zoomkern, tmp_path):
    assert zoomkern("fit", "--trainer.max_epochs=0") == 0
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "curves.png").exists()


def test_a_recipe_may_ask_for_exact_inference(zoomkern, tmp_path):
    two = [
        "--model.model=zoomkern.models.ZoomIn",
        "--model.model.in_channels=1",
        "--model.model.tile_size=[24,24]",
        "--model.model.tile_scale=0.5",
        "--data.tile_scale=0.5",
        "--model.model.inference=exact",
    ]
    zoomkern("fit", *two, "--trainer.max_epochs=1")
    losses = []
    for seed in (0, 1):
        zoomkern("test", *two, f"--data.seed={seed}")
        losses.append(figures(tmp_path / "run", "test")["test_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # nothing is drawn
    with pytest.warns(UserWarning, match="There are no pictures: this network looks at everything"):
        zoomkern("predict", *two)
    with open(tmp_path / "run" / "predictions.csv") as file:
        assert {row["places"] for row in csv.DictReader(file)} == {""}
    assert not (tmp_path / "run" / "pictures").exists()


def test_half_precision_learns(zoomkern, tmp_path):
    zoomkern("fit", "--trainer.precision=bf16-mixed", "--trainer.max_epochs=40")
    rows = [row for row in curves(tmp_path / "run") if row["train_loss"]]
    assert float(rows[-1]["train_loss"]) < 0.4 < 0.6 < float(rows[0]["train_loss"])
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_run_is_named_by_its_folder(zoomkern, small, tmp_path, monkeypatch):
    folds = ["--data.num_folds=2", "--data.fold=0", "--trainer.max_epochs=1"]
    zoomkern("fit", *folds)
    zoomkern("test", *folds)
    before = figures(tmp_path / "run", "test")
    (tmp_path / "run" / "test.json").unlink()
    monkeypatch.chdir(tmp_path)
    for words in (["--run", "run"], ["--run=run"]):
        assert main(["test", *words]) == 0
        assert figures(tmp_path / "run", "test") == before


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["test", "--run", str(tmp_path / "nowhere")])
    said = f"zoomkern test: there is no run in {str(tmp_path / 'nowhere')!r}, which has no config.yaml. Check --run.\n"
    assert capsys.readouterr().err == said


def test_weights_are_not_tried_on_images_of_other_classes(zoomkern, small, tmp_path, capsys):
    zoomkern("fit", "--trainer.max_epochs=1")
    other = small.save_pictures(tmp_path / "other")
    (other / "none").rename(other / "circle")
    message = "tells none, square apart, and these images are of circle, square. Give the config.yaml"
    for words in ([], [f"--weights={tmp_path / 'run' / 'weights.safetensors'}"]):
        assert message in complaint(capsys, zoomkern, "validate", f"--data.images.root={other}", *words)
    (tmp_path / "run" / "classes.json").write_text("{")
    assert "must be a JSON list of class names" in complaint(capsys, zoomkern, "validate")


def test_another_network_of_the_same_layers_warns(zoomkern, tmp_path):
    zoomkern("fit", "--trainer.max_epochs=1")
    with pytest.warns(UserWarning, match=r"other settings of the network: init_args.num_samples is 5 and was 9."):
        assert zoomkern("validate", "--model.model.num_samples=5") == 0
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*other settings")
        assert zoomkern("validate") == 0


def test_what_was_learned_is_said_only_where_it_is_nothing(zoomkern, recipe, tmp_path, capsys):
    zoomkern("fit", "--trainer.max_epochs=1", "--model.optimizer.lr=0", "--model.score_scale=0")
    said = capsys.readouterr().err
    assert "Nothing has been learned that the 6 validation images show: their loss is 0.69" in said
    assert "score_scale: 10" not in said  # it is 0, and attention starts from contrast
    assert "contrast: 3" not in said
    assert "and 0.693 for who knows only how many each class has. 3 steps were taken: more may do" in said
    zoomkern("fit", f"--folder={tmp_path / 'far'}", "--trainer.max_epochs=1", "--model.optimizer.lr=1e6")
    assert "a lower learning rate may do (--model.optimizer.lr)" in capsys.readouterr().err
    plain = tmp_path / "plain.yaml"
    plain.write_text(recipe.read_text().replace(", contrast: 1}", "}"))
    still = ["--trainer.max_epochs=1", "--model.optimizer.lr=0", "--model.score_scale=1"]
    zoomkern("fit", f"--folder={tmp_path / 'plain'}", *still, config=plain)
    said = capsys.readouterr().err
    assert "(contrast: 3 for each AttentionNetwork). Unit features want score_scale: 10." in said
    zoomkern("fit", f"--folder={tmp_path / 'longer'}", "--trainer.max_epochs=40")
    assert "Nothing has been learned" not in capsys.readouterr().err


@pytest.mark.parametrize("change", ["added", "gone", "gone, and a test image has its name"])
def test_a_run_goes_on_with_the_images_that_it_began_with(zoomkern, pictures, tmp_path, capsys, change):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    where = [f"--data.images.root={root}"]
    if "test image" in change:
        where += [
            "--data.test=zoomkern.data.ImageFolder",
            f"--data.test.root={shutil.copytree(root, tmp_path / 'test')}",
        ]
    zoomkern("fit", *where, "--trainer.max_epochs=1")
    before = (tmp_path / "run" / "images.csv").read_bytes()
    first = sorted((root / "none").iterdir())[0]
    if change == "added":
        shutil.copy(first, first.with_name("0a.png"))
    else:
        first.unlink()
    said = complaint(capsys, zoomkern, "fit", *where, "--resume=true", "--trainer.max_epochs=2")
    assert f"images must be those that {str(tmp_path / 'run')!r} began with" in said
    assert "some were added or taken away since. Restore them" in said
    assert (tmp_path / "run" / "images.csv").read_bytes() == before


@pytest.mark.parametrize("epoch", range(4))
def test_an_epoch_that_was_cut_in_its_validation_is_validated(zoomkern, tmp_path, monkeypatch, epoch):
    """Checkpoints of steps come before validation: one of an epoch's last step would skip it."""
    words = ["--save_every=3", "--trainer.max_epochs=4"]
    zoomkern("fit", *words, "--folder", str(tmp_path / "whole"))
    look = ClassificationTask.validation_step

    class Killed(Exception):
        pass

    def killed(task, *rest):
        if task.current_epoch == epoch and not task.trainer.sanity_checking:
            raise Killed
        return look(task, *rest)

    monkeypatch.setattr(ClassificationTask, "validation_step", killed)
    with pytest.raises(Killed):
        zoomkern("fit", *words)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["zoomkern"])
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    left = tmp_path / "run" / "checkpoints" / ".last.ckpt.0123456789abcdef.part"  # what a SIGKILL leaves
    left.touch()
    zoomkern("fit", *words, "--resume=true")
    assert not left.exists()
    whole, own = (read_curves(tmp_path / name / "curves") for name in ("whole", "run"))
    assert own["val_loss"] == whole["val_loss"]
    best = [load_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt") for name in ("whole", "run")]
    assert best[0]["epoch"] == best[1]["epoch"]
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("part", ["optimizer_states", "callbacks", "pytorch-lightning_version", "state_dict"])
def test_a_checkpoint_without_its_parts_is_named(zoomkern, tmp_path, capsys, part):
    zoomkern("fit", "--trainer.max_epochs=1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    torch.save({**load_checkpoint(last), part: None}, last)
    said = complaint(capsys, zoomkern, "fit", "--resume=true")
    assert f"{str(last)!r} must be a training run's checkpoint; it has no {part}. Restore it; best.ckpt in the" in said


def test_a_trained_network_is_not_begun_anew(zoomkern, tmp_path, capsys):
    zoomkern("fit", "--trainer.max_epochs=2")
    folder = tmp_path / "run" / "checkpoints"
    (folder / "last.ckpt").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for _ in range(2):
        said = complaint(capsys, zoomkern, "fit", "--resume=true")
        assert "holds a trained network and no last.ckpt to go on from. Copy best.ckpt to last.ckpt" in said
        assert all(path.read_bytes() == data for path, data in before.items() if path.exists())
        (tmp_path / "run" / "weights.safetensors").unlink(missing_ok=True)  # of the second epoch is best.ckpt
    shutil.copy(folder / "best.ckpt", folder / "last.ckpt")
    assert zoomkern("fit", "--resume=true", "--trainer.max_epochs=2") == 0


def test_a_folder_that_was_moved_knows_its_best_epoch(zoomkern, tmp_path):
    first = ["--mode=max", "--model.schedule=constant"]  # the loss falls, so that the first epoch is the best one
    zoomkern("fit", *first, "--trainer.max_epochs=3")
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    last = tmp_path / "moved" / "checkpoints" / "last.ckpt"
    assert all("KeptCheckpoint" not in name for name in load_checkpoint(last)["callbacks"])  # nor had earlier ones
    zoomkern("fit", *first, "--trainer.max_epochs=5", "--resume=true", "--folder", str(tmp_path / "moved"))
    for name in ("run", "moved"):
        assert load_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt")["epoch"] == 0
    assert len(read_curves(tmp_path / "moved" / "curves")["val_loss"]) == 5


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_a_signal_ends_has_not_succeeded(zoomkern, monkeypatch, capsys, number, status):
    step = ClassificationTask.training_step

    def signalled(task, batch, index):
        if task.global_step == 4:
            assert callable(signal.getsignal(number))
            signal.raise_signal(number)
        return step(task, batch, index)

    monkeypatch.setattr(ClassificationTask, "training_step", signalled)
    with pytest.raises(SystemExit) as ended:
        zoomkern("fit")
    assert ended.value.code == status
    assert "Interrupted: the same command with --resume true goes on from " in capsys.readouterr().err


def test_curves_are_kept_whatever_else_is_logged(zoomkern, tmp_path):
    rates = "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor"
    zoomkern("fit", rates, "--trainer.logger=false", "--trainer.max_epochs=1")
    assert (tmp_path / "run" / "curves.png").exists()
    others = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'own'}"]
    zoomkern("fit", *others, "--folder", str(tmp_path / "two"), "--trainer.max_epochs=1")
    assert list((tmp_path / "own").rglob("metrics.csv"))
    assert (tmp_path / "two" / "curves.png").exists()


@pytest.mark.parametrize("word", ["accelerator=cuda", "enable_checkpointing=false", "limit_train_batches=0.01"])
def test_options_that_do_not_fit_the_machine_or_each_other_are_no_traceback(zoomkern, capsys, monkeypatch, word):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = complaint(capsys, zoomkern, "fit", f"--trainer.{word}")
    assert "zoomkern fit: these options of the trainer do not fit: " in said


@pytest.mark.parametrize("command", ["test", "predict"])
def test_weights_that_are_named_are_tested_on_unseen_images_too(zoomkern, tmp_path, capsys, command):
    folds = ["--data.num_folds=2", "--trainer.max_epochs=1"]
    zoomkern("fit", *folds)
    words = [*folds, "--folder", str(tmp_path / "other"), "--weights", str(tmp_path / "run" / "weights.safetensors")]
    assert "or it was tested on images that trained it" in complaint(capsys, zoomkern, command, *words, "--data.fold=1")
    assert not (tmp_path / "other").exists()
    assert zoomkern(command, *words) == 0


def test_a_run_goes_on_with_its_network(zoomkern, capsys):
    zoomkern("fit", "--trainer.max_epochs=1")
    said = complaint(capsys, zoomkern, "fit", "--resume=true", "--model.model.num_samples=5")
    assert "model.model.init_args.num_samples must be 9, " in said


def test_a_run_does_not_write_among_its_images(zoomkern, pictures, tmp_path, capsys):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    for place in (root, root / "none" / "run"):
        said = complaint(capsys, zoomkern, "fit", f"--data.images.root={root}", f"--folder={place}")
        assert f"--folder must not lie in {str(root)!r}" in said
    assert sorted(path.name for path in root.iterdir()) == ["none", "square"]


def test_one_class_is_nothing_to_learn(zoomkern, pictures, tmp_path, capsys):
    root = tmp_path / "pictures"
    shutil.copytree(pictures / "none", root / "none")
    said = complaint(capsys, zoomkern, "fit", f"--data.images.root={root}")
    assert "a classifier needs images of two classes or more; these are all 'none'." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.model.num_sample=3"], "Is 'num_samples' meant?"),
        (["--data.bach_size=3"], "Is 'data.batch_size' meant?"),
        (["--foldr=3"], "Is 'folder' meant?"),
        (["--model.model.fill=128"], "Further arguments of AttentionSampling go below its dict_kwargs"),
        (["--trainer.max_epoch=3"], "Is 'trainer.max_epochs' meant?"),
        (["--data.view_scale=2"], "view_scale must be above 0 and at most 1; got 2"),
    ],
)
def test_a_wrong_option_names_the_right_one(zoomkern, capsys, words, message):
    with pytest.raises(SystemExit):
        zoomkern("fit", *words)
    assert message in capsys.readouterr().err


def test_options_like_none_are_not_guessed():
    assert nearest("Option 'zzz' is not accepted", ["data.batch_size"]) == ""
    assert nearest("something else", ["data.batch_size"]) == ""
    assert nearest("class_path 'no.such.Network': Option 'data.batch_siz' is not accepted", ["data.batch_size"]) == ""

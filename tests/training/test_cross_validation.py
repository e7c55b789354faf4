"""Folds and repetitions: which run, what is left of a kill, and the arithmetic of the table."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest
import torch

from zoomkern.cli.main import main
from zoomkern.images.files import alone
from zoomkern.training import cross_validation
from zoomkern.training.cross_validation import Fold, cross_validate, markdown, read_results

FOLDS = [Fold(r, k) for r in (0, 1) for k in (0, 1)]


@pytest.fixture
def ran(monkeypatch):
    """Folds that ran. They run in this process: what others add is tested with them, and by the slow tests."""
    names = []

    def one_after_another(function, calls, processes):
        threads = torch.get_num_threads()
        for name, arguments in calls.items():
            names.append(name)
            try:
                function(*arguments)
            except (Exception, SystemExit) as error:
                yield name, f"{type(error).__name__}: {error}"
            else:
                yield name, ""
        torch.set_num_threads(threads)

    monkeypatch.setattr(cross_validation, "in_processes", one_after_another)
    monkeypatch.setattr(sys, "argv", ["zoomkern"])
    return names


def command(recipe, output, *words):
    options = ["--folds=2", "--repetitions=2", "--threads=1"]
    return ["cross-validate", f"--config={recipe}", f"--output={output}", *options, *words]


def comparable(folder):
    return [{name: value for name, value in result.items() if name != "seconds"} for result in read_results(folder)]


def test_every_fold_has_a_result_and_no_fold_runs_twice(ran, recipe, tmp_path, capsys):
    assert main(command(recipe, tmp_path)) == 0
    assert ran == FOLDS
    results = read_results(tmp_path)
    assert [(result["repetition"], result["fold"]) for result in results] == FOLDS
    for repetition in (0, 1):
        names = [list(result["probabilities"]) for result in results if result["repetition"] == repetition]
        assert len(names[0]) == len(names[1]) == 12
        assert len({*names[0], *names[1]}) == 24  # every image is a test image once
    assert set(results[0]["probabilities"]) not in [set(result["probabilities"]) for result in results[2:]]
    for result in results:
        confusion = torch.tensor(result["confusion"])
        assert confusion.sum() == 12
        assert result["accuracy"] == pytest.approx(float(confusion.trace()) / 12)
        right = sum(
            name.startswith(("none", "square")[p[1] > p[0]] + "/") for name, p in result["probabilities"].items()
        )
        assert right == confusion.trace()
    with open(tmp_path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy"] for row in rows] == [str(result["accuracy"]) for result in results]
    table = (tmp_path / "results.md").read_text()
    assert "\n".join(table.splitlines()[:6]) in capsys.readouterr().out

    (tmp_path / "folds" / "repetition-01-fold-00.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").iterdir()}
    ran.clear()
    assert main(command(recipe, tmp_path)) == 0
    assert ran == [Fold(1, 0)]
    assert before.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").iterdir()}.items()
    again = [{name: value for name, value in result.items() if name != "seconds"} for result in results]
    assert comparable(tmp_path) == again  # its network was trained already, and is read again
    assert main(command(recipe, tmp_path, "--repetitions=3")) == 0
    assert ran[1:] == [Fold(2, 0), Fold(2, 1)]


def test_watched_test_images_choose_nothing(ran, recipe, tmp_path):
    words = [f"--config={recipe}", "--trainer.max_epochs=4"]
    assert cross_validate(words, tmp_path / "blind", 2, 1, threads=1) == []
    assert cross_validate([*words, "--data.watch_test=true"], tmp_path / "watched", 2, 1, threads=1) == []
    for blind, watched in zip(comparable(tmp_path / "blind"), comparable(tmp_path / "watched"), strict=True):
        assert blind.pop("optimistic_accuracy") is None
        assert watched.pop("optimistic_accuracy") >= max(watched["accuracy"], watched["last_accuracy"]) - 1e-6
        assert blind == watched
    assert "best epoch on the test fold" in (tmp_path / "watched" / "results.md").read_text()
    assert "best epoch on the test fold" not in (tmp_path / "blind" / "results.md").read_text()


def test_the_last_epoch_is_not_the_chosen_one(ran, recipe, tmp_path):
    """Where the worst epoch is chosen, the first one perhaps, the last one must be another and better."""
    words = [f"--config={recipe}", "--trainer.max_epochs=12", "--mode=max"]
    assert cross_validate(words, tmp_path, 2, 1, threads=1) == []
    results = read_results(tmp_path)
    assert all(result["epoch"] < 11 for result in results)
    assert sum(result["last_accuracy"] for result in results) > sum(result["accuracy"] for result in results)


def test_one_fold_is_a_sets_own_split(ran, recipe, small, tmp_path):
    test = small.save_pictures(tmp_path / "test")
    words = [f"--config={recipe}", "--data.test=zoomkern.data.ImageFolder", f"--data.test.init_args.root={test}"]
    assert cross_validate(words, tmp_path / "output", 1, 2, threads=1) == []
    first, second = comparable(tmp_path / "output")
    assert ran == [Fold(0, 0), Fold(1, 0)]
    assert list(first["probabilities"]) == list(second["probabilities"])
    assert len(first["probabilities"]) == 24
    assert first["probabilities"] != second["probabilities"]


def test_a_fold_that_fails_is_named_and_the_others_have_results(ran, recipe, small, tmp_path, capsys):
    root = small.save_pictures(tmp_path / "pictures")
    (root / "square" / "03.png").write_bytes(b"")
    assert main(command(recipe, tmp_path / "out", "--repetitions=1", f"--data.images.root={root}")) == 1
    said = capsys.readouterr().out
    assert said.count("failed: ") == 2  # it trains one and tests the other
    assert "failed: repetition-00-fold-00: OSError: " in said
    assert str(root / "square" / "03.png") in said
    assert not read_results(tmp_path / "out")
    small.save_pictures(root)
    assert main(command(recipe, tmp_path / "out", "--repetitions=1", f"--data.images.root={root}")) == 0
    assert len(read_results(tmp_path / "out")) == 2


def test_one_failure_leaves_the_others(ran, recipe, tmp_path, monkeypatch):
    run_fold = cross_validation.run_fold

    def fails_once(words, folder, fold, *rest):
        if fold == FOLDS[1]:
            raise MemoryError("too large")
        run_fold(words, folder, fold, *rest)

    monkeypatch.setattr(cross_validation, "run_fold", fails_once)
    reports = []
    failures = cross_validate(
        [f"--config={recipe}"], tmp_path, 2, 2, threads=1, report=lambda *report: reports.append(report)
    )
    assert failures == ["repetition-00-fold-01: MemoryError: too large"]
    assert [(result["repetition"], result["fold"]) for result in read_results(tmp_path)] == [(0, 0), (1, 0), (1, 1)]
    assert [done for done, _, _ in reports] == [0, 1, 2, 3]
    assert reports[1][2].startswith("repetition-00-fold-00: accuracy ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds=0"], "folds must be between 1"),
        (["--folds=1"], "folds must be 2 or more for a set without test images of its own (data.test); got 1."),
        (["--folds=13"], "num_folds must be at most 12, the images of class 0; got 13"),
        (["--processes=0"], "processes must be between 1"),
        (["--model.schedule=never"], "schedule must be one of"),
        (["--trainer.devices=2", "--trainer.strategy=ddp"], "a fold trains in one process"),
        (["--trainer.limit_val_batches=0"], "a fold's epoch is chosen by validation, of which"),
        (["--trainer.check_val_every_n_epoch=9"], "a fold's epoch is chosen by validation, of which"),
    ],
)
def test_what_fits_no_fold_starts_none(ran, recipe, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(command(recipe, tmp_path, *words))
    assert ended.value.code == 2
    assert f"zoomkern cross-validate: {message}" in capsys.readouterr().err
    assert not ran
    assert not (tmp_path / "configuration.json").exists()


def test_an_unknown_key_is_named_once(ran, recipe, tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text(recipe.read_text() + "\ncolour_of_the_sky: 3\n")
    with pytest.raises(SystemExit) as ended:
        main(command(bad, tmp_path / "out"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("colour_of_the_sky") == 1
    assert not ran


def test_a_folder_is_for_one_configuration_and_one_process(ran, recipe, tmp_path, capsys):
    assert main(command(recipe, tmp_path, "--repetitions=1")) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = tmp_path.parent / "other.yaml"
    other.write_text(recipe.read_text().replace("lr: 0.05", "lr: 0.06"))
    swapped = f"--config={recipe}, --config={other}"
    for words, named in (
        (command(recipe, tmp_path, "--model.entropy=1"), "--model.entropy=1"),
        (command(other, tmp_path), swapped),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert f"with other options (see configuration.json): {named}. Give the same" in capsys.readouterr().err
    again = command(recipe, tmp_path)
    text = recipe.read_text()
    try:
        recipe.write_text(text.replace("lr: 0.05", "lr: 0.06"))  # the same name
        with pytest.raises(SystemExit) as ended:
            main(again)
    finally:
        recipe.write_text(text)
    assert ended.value.code == 2
    assert f"with other options (see configuration.json): {recipe}. Give the same" in capsys.readouterr().err
    with alone(tmp_path / ".lock"), pytest.raises(SystemExit) as ended:
        main(again)
    assert ended.value.code == 2
    assert "another process works in" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_table_is_of_one_set_of_images(ran, recipe, pictures, tmp_path, capsys):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    words = command(recipe, tmp_path / "out", f"--data.images.root={root}")
    assert main([*words, "--repetitions=1"]) == 0
    before, table = list(ran), (tmp_path / "out" / "results.csv").read_bytes()
    extra = root / "none" / "0a.png"
    shutil.copy(next((root / "none").iterdir()), extra)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "images must be those that" in capsys.readouterr().err
    assert (ran, (tmp_path / "out" / "results.csv").read_bytes()) == (before, table)
    extra.unlink()
    assert main(words) == 0
    assert ran == FOLDS


def test_the_arithmetic_of_the_table():
    generator = random.Random(0)
    results = [
        {
            **fold._asdict(),
            "epoch": 3,
            "probabilities": {"a": [], "b": []},
            **{name: generator.random() for name in cross_validation.FIGURES},
        }
        for fold in FOLDS
    ]
    lines = [[cell.strip() for cell in line.split("|")] for line in markdown(results).splitlines()]
    assert lines[2][2:-1] == list(cross_validation.FIGURES.values())
    for column, name in enumerate(cross_validation.FIGURES, 2):
        values = [100 * result[name] for result in results]
        means = [statistics.fmean(values[:2]), statistics.fmean(values[2:])]
        assert lines[4][column] == f"{statistics.fmean(values):.1f} +- {statistics.stdev(values):.1f}"
        assert lines[5][column] == f"{statistics.fmean(values):.1f} +- {statistics.stdev(means):.1f}"
        assert [line[column] for line in lines[6:]] == [f"{value:.1f}" for value in values]
    assert [lines[4][1], lines[5][1]] == ["4 folds", "2 repetitions"]
    assert lines[8][1] == "repetition 1, fold 0, epoch 3, 2 images"
    assert "+-" not in markdown(results[:1])  # one value spreads nowhere
    results[0]["auc"] = None
    lines = [[cell.strip() for cell in line.split("|")] for line in markdown(results).splitlines()]
    column = lines[2].index("AUC")
    rest = [100 * result["auc"] for result in results[1:]]
    assert lines[4][column] == f"{statistics.fmean(rest):.1f} +- {statistics.stdev(rest):.1f}"
    assert lines[6][column] == ""


def started(recipe, output, *words):
    """The command in a process group of its own."""
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "zoomkern.cli.main", *command(recipe, output, "--trainer.max_epochs=30", *words)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(recipe, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = started(recipe, whole, "--processes=2")
    out, error = undisturbed.communicate()
    assert undisturbed.returncode == 0, error
    assert "GPU available" not in out + error
    assert "Warning" not in error
    generator, done = random.Random(time.time_ns()), {}
    for kill in range(8):
        victim = started(recipe, cut)
        time.sleep(generator.uniform(2, 25))
        if kill % 2:
            os.killpg(victim.pid, signal.SIGKILL)
        else:
            victim.kill()  # its child must notice by itself
        victim.communicate()
        now = {path: path.stat().st_mtime_ns for path in cut.glob("folds/*.json")}
        assert done.items() <= now.items()
        done = now
    last = started(recipe, cut, "--processes=2")
    _, error = last.communicate()
    assert last.returncode == 0, error
    assert done.items() <= {path: path.stat().st_mtime_ns for path in cut.glob("folds/*.json")}.items()
    assert comparable(cut) == comparable(whole)
    assert [(result["repetition"], result["fold"]) for result in read_results(cut)] == FOLDS


def test_an_interrupt_says_how_to_go_on(recipe, tmp_path, capsys, monkeypatch):
    def interrupted(words, output, folds, repetitions, processes, threads, report):
        report(1, 4, "one fold")
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "cross_validate", interrupted)
    assert main(command(recipe, tmp_path)) == 130
    assert "Interrupted: 1 of 4 folds are done; the same command goes on." in capsys.readouterr().err

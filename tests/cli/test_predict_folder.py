"""The words of ``zoomkern predict --images``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoomkern.cli.main import main


@pytest.fixture(scope="module")
def folders():
    path = Path(__file__).parents[1] / "training" / "folders.py"
    spec = importlib.util.spec_from_file_location("folders", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(folders, tmp_path_factory):
    return folders.save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def images(folders, tmp_path_factory):
    return folders.save_images(tmp_path_factory.mktemp("images"), 3)


@pytest.fixture
def predict(run, images, tmp_path):
    """Runs the command on three images."""

    def call(*words):
        return main(
            ["predict", f"--run={run}", f"--images={images}", f"--output={tmp_path / 'out'}", "--top=0", *words]
        )

    return call


def complaint(capsys, call, *words):
    """What a command that fails says last; it ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        call(*words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.rstrip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run=nowhere"], "there is no recipe 'nowhere/config.yaml'. Name it with --config, or a run with --run."),
        (["--weights=nowhere"], "there is no file 'nowhere'."),
        (["--images=nowhere"], "--images must name files or folders; there is no 'nowhere'."),
        (["--shard=4/3"], "--shard must be NUMBER/COUNT, counted from 1, as 3/16; got '4/3'."),
        (["--classes", "a"], "the network has 2 classes; got a. Name each once with --classes."),
        (["--device=quantum"], "--device must be auto, cpu, cuda or cuda:1; got 'quantum'."),
        (["--mask=nowhere"], "--mask must be none, tissue or a folder; got 'nowhere', which is none."),
        (["--view-size", "3", "3", "--view-scale=1"], "give one of --view-scale and --view-size; got both."),
        (["--view-size", "0", "3"], "view_size"),
        (["--view-scale=-1"], "--view-scale must be above 0 and at most 1; got -1.0."),
        (["--mpp=0"], "--mpp must be positive and finite; got 0.0."),
        (["--mpp-table=nowhere.csv"], "nowhere.csv"),
        (["--top=-1"], "--top must be between 0"),
        (["--colour=red"], "unrecognized arguments: --colour=red"),
        (["--tops=3"], "unrecognized arguments: --tops=3. Is --top meant?"),
        (["--max-view-pixel", "3"], "unrecognized arguments: --max-view-pixel. Is --max-view-pixels meant?"),
        (["--model.sharpness=3"], "sharpness"),
        (["--model.model.num_samples=many"], "many"),
        (["stray.png"], "unrecognized arguments: stray.png"),
    ],
)
def test_bad_words(predict, capsys, tmp_path, words, message):
    assert message in complaint(capsys, predict, *words)
    assert not (tmp_path / "out").exists()


def test_neither_run_nor_recipe(images, tmp_path, capsys):
    said = complaint(capsys, main, ["predict", f"--images={images}", f"--output={tmp_path}"])
    assert said.startswith("zoomkern predict: --run or --config must name the network; got neither.")


def test_an_output_alone_lacks_images(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--run", str(run), "--output", str(tmp_path)])
    assert ended.value.code == 2
    assert "required: --images" in capsys.readouterr().err


def test_an_output_is_a_folder(run, images, tmp_path, capsys):
    (tmp_path / "file").touch()
    said = complaint(capsys, main, ["predict", f"--run={run}", f"--images={images}", f"--output={tmp_path / 'file'}"])
    assert "--output must be a folder; " in said


def test_a_recipe_and_weights_are_a_run_in_two_parts(predict, run, images, tmp_path, folders):
    assert predict("--quiet") == 0
    parts = [f"--config={run / 'config.yaml'}", f"--weights={run / 'weights.safetensors'}", f"--images={images}"]
    assert main(["predict", *parts, f"--output={tmp_path / 'two'}", "--top=0", "--quiet"]) == 0
    assert folders.contents(tmp_path / "two") == folders.contents(tmp_path / "out")


def test_what_is_said(predict, capsys, images):
    assert predict() == 0
    out, err = capsys.readouterr()
    assert "shard 1/1 (all images): 3 of 3 images, " in out
    assert "to do: 3 new\n" in out
    assert "3 of 3 images are done, 0 failed, 0 are missing: " in out
    assert "it/s" not in err  # no bar where nobody watches
    assert predict("--quiet", "--overwrite") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_launcher_that_meant_something_else_is_named(predict, capsys, monkeypatch):
    for name, value in (("ID", "1"), ("MIN", "0"), ("MAX", "1"), ("COUNT", "2")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert predict("--quiet") == 0
    out, err = capsys.readouterr()
    assert err.startswith("shard 2/2 (SLURM_ARRAY_TASK_ID): 2 of 3 images, ")
    assert "; --shard 1/1 does all\n" in err
    assert out.count("\n") == 1


def test_classes_have_the_names_of_the_run_or_those_given(predict, tmp_path):
    predict("--quiet")
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith("image,predicted,none,square,height,")
    predict("--quiet", "--classes", "healthy", "ill, or so")
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith('image,predicted,healthy,"ill, or so",height,')


def test_weights_from_strangers_run_nothing(predict, run, tmp_path, capsys):
    import torch

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "written"), "w")

    torch.save({"state_dict": Evil()}, tmp_path / "weights.safetensors")
    said = complaint(capsys, predict, f"--weights={tmp_path / 'weights.safetensors'}")
    assert "is truncated or no safetensors file" in said
    assert not (tmp_path / "written").exists()


def test_the_status_of_the_process(run, images, tmp_path):
    """As a shell and a launcher see it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = [f"--run={run}", f"--images={tmp_path / 'images'}", f"--output={tmp_path / 'out'}", "--shard=1/1"]
    ended = subprocess.run(
        [sys.executable, "-m", "zoomkern.cli.main", "predict", *words], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "failed: bad.png: " in ended.stderr
    assert "Traceback" not in ended.stderr
    (failed,) = json.loads((tmp_path / "out" / "summary.json").read_text())["failed"]
    assert failed["image"] == "bad.png"


def test_a_table_of_resolutions_says_how_many_images_it_knows(predict, tmp_path, capsys):
    table = tmp_path / "mpp.csv"
    table.write_text("image,mpp\n001.png,0.5\nanother.png,0.25\n")
    assert predict(f"--mpp-table={table}") == 0
    assert f"{table} has the mpp of 1 of them" in capsys.readouterr().out


def test_help_of_predictions_names_that_of_folders(capsys):
    for words in (["predict", "--help"], ["predict", "--images", "FOLDER", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    recipes, _, folders = capsys.readouterr().out.partition("usage: zoomkern predict [-h] --images")
    assert "zoomkern predict --images FOLDER --help" in recipes
    assert "--mpp-table CSV" in folders

"""Ray Data as a launcher of predictions."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoomkern.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders():
    spec = importlib.util.spec_from_file_location("folders", ROOT / "tests" / "training" / "folders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images(folders, tmp_path):
    """Nine images, and one that cannot be read."""
    images = folders.save_images(tmp_path / "images", 10)
    (images / "003.png").write_bytes(b"")
    return images


@pytest.fixture
def words(folders, images, tmp_path):
    return ["--run", str(folders.save_run(tmp_path / "run")), "--images", str(images), "--top", "1"]


def launch(folder, *words):
    """The recipe, begun in a folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    script = [sys.executable, str(ROOT / "recipes" / "predict_ray.py"), *words]
    return subprocess.Popen(script, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_two_workers_write_what_one_process_writes(folders, words, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    ray = launch(tmp_path, "--shards", "2", *words, "--output", "out")
    assert main(["predict", *words, "--quiet", "--output", str(tmp_path / "whole")]) == 1
    said = ray.communicate(timeout=600)[0].decode()
    assert ray.returncode == 1, said
    assert "Map(predict)" in said
    assert folders.contents(tmp_path / "out") == folders.contents(tmp_path / "whole")


def working_in(folder):
    """Numbers of the processes that predict a shard in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder) and b"Map(predict)" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_that_is_lost_is_replaced_and_stops_no_other(folders, words, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    shards = ["--shards", "3", "--concurrency", "1"]
    ray = launch(tmp_path, *shards, *words, "--output", "out")
    killed = []
    while ray.poll() is None and not killed:
        time.sleep(0.05)
        if list(tmp_path.glob("out/state/*.json")):
            killed = working_in(tmp_path)
            for number in killed:
                os.kill(number, signal.SIGKILL)
    said = ray.communicate(timeout=600)[0].decode()
    assert len(killed) == 1, said
    assert ray.returncode == 1, said
    assert main(["predict", *words, "--quiet", "--output", str(tmp_path / "whole")]) == 1
    assert folders.contents(tmp_path / "out") == folders.contents(tmp_path / "whole")


def test_bad_options_are_the_status_of_all_shards(words, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    ray = launch(tmp_path, *words, "--output", "out", "--mask", "nowhere")
    said = ray.communicate(timeout=600)[0].decode()
    assert ray.returncode == 2, said
    assert "--mask must be none, tissue or a folder; got 'nowhere'" in said

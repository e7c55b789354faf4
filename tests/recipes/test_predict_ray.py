"""Ray as a launcher of predictions."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
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


def test_two_workers_write_what_one_process_writes(folders, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    run, images = folders.save_run(tmp_path / "run"), folders.save_images(tmp_path / "images", 10)
    (images / "003.png").write_bytes(b"")
    words = ["--run", str(run), "--images", str(images), "--top", "1"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    script = [sys.executable, str(ROOT / "recipes" / "predict_ray.py"), "--shards", "2", *words]
    ended = subprocess.run([*script, "--output", "out"], env=environment, cwd=tmp_path, timeout=600, check=False)
    assert ended.returncode == 1
    assert main(["predict", *words, "--quiet", "--output", str(tmp_path / "whole")]) == 1
    assert folders.contents(tmp_path / "out") == folders.contents(tmp_path / "whole")

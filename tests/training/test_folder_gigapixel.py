"""Memory of a prediction: bounded, and the same for a hundred times the pixels."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

#: What docs/predict.md says of images of 20,000 and 100,000 pixels a side, with room for another machine's libraries.
MOST_BYTES, MOST_GROWTH = 2e9, 200e6


#: Runs a command and prints its peak in KiB. Linux counts what a process was forked from, here all of pytest.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture(scope="module")
def large():
    spec = importlib.util.spec_from_file_location("large", Path(__file__).with_name("large.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_ten_gigapixels_in_less_than_two_gigabytes(large, tmp_path):
    peaks = {}
    run = large.save_large_run(tmp_path / "run")
    for side in (20_000, 100_000):
        slide = large.save_large(tmp_path / str(side) / "slide.tif", side)
        for name in ("second.tif", "third.tif"):
            slide.with_name(name).symlink_to(slide)
        words = ["--run", run, "--images", tmp_path / str(side), "--output", tmp_path / f"out{side}", "--quiet"]
        command = [sys.executable, "-m", "zoomkern.cli.main", "predict", *map(str, words)]
        done = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
        peaks[side] = 1024 * int(done.stdout.splitlines()[-1])
        state = json.loads((tmp_path / f"out{side}" / "state" / "slide.tif.json").read_bytes())
        assert state["size"] == [side, side]
        assert len(state["places"]) >= 5
    assert peaks[100_000] < MOST_BYTES, peaks
    assert peaks[100_000] - peaks[20_000] < MOST_GROWTH, peaks

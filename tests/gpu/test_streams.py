"""Calls on several streams do not disturb each other, and tell torch what they read and write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoomkern

from .device import each_backend

PROGRAM = Path(__file__).with_name("three_streams.py")


def run(task: str, sanitizer: bool) -> subprocess.CompletedProcess[str]:
    root = Path(zoomkern.__file__).parents[1]
    environment = {**os.environ, "TORCH_CUDA_SANITIZER": "1", "PYTHONPATH": str(root)}
    if not sanitizer:
        del environment["TORCH_CUDA_SANITIZER"]
    return subprocess.run(
        [sys.executable, str(PROGRAM), task], env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_sanitizer_finds_a_race() -> None:
    done = run("race", sanitizer=True)
    assert "CSAN detected a possible data race" in done.stderr, done.stderr


@each_backend
@pytest.mark.parametrize("sanitizer", [False, True], ids=["plain", "sanitizer"])
def test_three_streams_at_once_give_what_each_gives_alone(sanitizer: bool, backend: str) -> None:
    """Under torch's sanitizer a tensor that two streams use without an event between them is an error."""
    done = run(backend, sanitizer)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "equal\n"
    assert "CSAN detected" not in done.stderr

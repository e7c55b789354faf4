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


@each_backend
@pytest.mark.parametrize("sanitizer", ["0", "1"], ids=["plain", "sanitizer"])
def test_three_streams_at_once_give_what_each_gives_alone(sanitizer: str, backend: str) -> None:
    """Under torch's sanitizer a tensor that two streams use without an event between them is an error."""
    root = Path(zoomkern.__file__).parents[1]
    environment = {**os.environ, "TORCH_CUDA_SANITIZER": sanitizer, "PYTHONPATH": str(root)}
    if sanitizer == "0":
        del environment["TORCH_CUDA_SANITIZER"]
    words = [sys.executable, str(PROGRAM), backend]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "equal\n"
    assert "CSAN detected" not in done.stderr

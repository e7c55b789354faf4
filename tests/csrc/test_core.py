"""The C++ tests of the core headers, built and run as CMake's own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_core(tmp_path):
    if not all(map(shutil.which, ("cmake", "ctest", "c++"))):
        pytest.skip("cmake and a C++ compiler are not installed")
    settings = [f"-DZOOMKERN_TORCH={Path(torch.__file__).parent}", f"-DPython_EXECUTABLE={sys.executable}"]
    commands = [
        ["cmake", "-S", ROOT, "-B", tmp_path, "-DZOOMKERN_BUILD_TESTS=ON", *settings],
        ["cmake", "--build", tmp_path, "--target", "test_core"],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
    ]
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    assert "tests failed out of 1" in done.stdout

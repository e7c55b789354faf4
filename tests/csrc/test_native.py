"""The C++ tests, built and run as CMake's own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_cpp_tests_pass(tmp_path):
    if not all(map(shutil.which, ("cmake", "ctest", "c++"))):
        pytest.skip("cmake and a C++ compiler are not installed")
    settings = [f"-DZOOMKERN_TORCH={Path(torch.__file__).parent}", f"-DPython_EXECUTABLE={sys.executable}"]
    tests = [source.stem for source in (ROOT / "tests" / "csrc").rglob("test_*.cpp")]
    commands = [
        ["cmake", "-S", ROOT, "-B", tmp_path, "-DZOOMKERN_BUILD_TESTS=ON", *settings],
        ["cmake", "--build", tmp_path, "--target", *tests],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
    ]
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    watched = shutil.which("valgrind") is not None  # one of them runs under it too
    assert f"0 tests failed out of {len(tests) + watched}" in done.stdout

"""The CUDA kernels, unedited, on an emulation of CUDA's threads: the suites of the ops judge them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("tests/cuda", "tests/ops")


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_suites_pass_on_emulated_kernels(tmp_path):
    if not all(map(shutil.which, ("cmake", "c++"))):
        pytest.skip("cmake and a C++ compiler are not installed")
    torch_at = Path(torch.__file__).parent
    settings = [f"-DZOOMKERN_TORCH={torch_at}", f"-DPython_EXECUTABLE={sys.executable}", "-DZOOMKERN_CUDA=0"]
    run("cmake", "-S", ROOT, "-B", tmp_path, "-DZOOMKERN_BUILD_TESTS=ON", *settings)
    run("cmake", "--build", tmp_path, "--target", "zoomkern_emulated")
    (library,) = tmp_path.rglob("libzoomkern_emulated.so")
    plugin = ("-p", "tests.csrc.emulation.plugin", "-p", "no:cacheprovider")
    out = run(
        *(sys.executable, "-m", "pytest", "-q", *plugin, *SUITES),
        ZOOMKERN_EMULATED=str(library),
        ZOOMKERN_CHECK="1",
        PYTHONPATH=str(ROOT),
    )
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None
    assert int(passed[1]) > 1000

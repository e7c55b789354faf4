"""``pip install .`` in fresh environments: with and without build isolation, a compiler, and native libraries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DRAW = "import torch, zoomkern; print(zoomkern.sample(torch.zeros(1, 9), 3, seed=1).index.tolist())"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A copy of the source, and an environment with torch and the build's tools but without zoomkern."""
    folder = tmp_path_factory.mktemp("install")
    left_out = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "_build.json", "__pycache__", "tests")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    (folder / "constraint.txt").write_text(f"torch=={torch.__version__.partition('+')[0]}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZOOMKERN_", "CXX"))}
    environment["PIP_CONSTRAINT"] = environment["PIP_BUILD_CONSTRAINT"] = str(folder / "constraint.txt")
    environment["PATH"] = f"{folder / 'env/bin'}{os.pathsep}{environment['PATH']}"
    tools = ["setuptools>=77", "wheel", "cmake", "ninja", "pybind11", "numpy", "torch"]
    subprocess.run([folder / "env/bin/pip", "install", "-q", *tools], check=True, env=environment)
    return SimpleNamespace(folder=folder, bin=folder / "env/bin", environment=environment)


def pip_install(machine, *words, options=("--no-deps", "--force-reinstall"), **environment):
    """Returns the process and the lines that the build itself printed."""
    process = subprocess.run(
        [machine.bin / "python", "-m", "pip", "install", "-v", *options, *words],
        cwd=machine.folder / "source",
        env=machine.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, [line.strip() for line in process.stdout.splitlines() if line.strip().startswith("zoomkern: ")]


def run(machine, *command):
    return subprocess.run(
        command, check=True, cwd=machine.folder, env=machine.environment, capture_output=True, text=True
    ).stdout


def assert_installed(machine, native):
    info = run(machine, machine.bin / "zoomkern", "info")
    (cpu,) = (line.split() for line in info.splitlines() if line.startswith("  cpu "))
    assert cpu[1] == ("on" if native else "off"), info
    assert run(machine, machine.bin / "python", "-c", DRAW).count(",") == 2


def without_compiler(machine):
    return {"PATH": str(machine.bin)}


@pytest.mark.parametrize("words", [".", "--no-build-isolation .", "-e ."])
def test_native(machine, words):
    process, lines = pip_install(machine, *words.split())
    assert process.returncode == 0, process.stdout
    (line,) = lines
    assert line.startswith("zoomkern: native libraries for baseline")
    assert f"against torch {torch.__version__}" in line
    assert_installed(machine, native=True)


def test_native_into_an_environment_without_torch(machine, tmp_path):
    """The build brings a torch of its own, and pip installs one beside zoomkern, into which the library loads."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    empty = SimpleNamespace(**{**vars(machine), "bin": tmp_path / "env/bin"})
    process, lines = pip_install(empty, ".", options=())
    assert process.returncode == 0, process.stdout
    (line,) = lines
    assert line.startswith("zoomkern: native libraries for baseline")
    assert_installed(empty, native=True)


def test_without_compiler(machine):
    process, lines = pip_install(machine, ".", **without_compiler(machine))
    assert process.returncode == 0, process.stdout
    assert lines == ["zoomkern: pure Python, without native libraries: no C++ compiler was found"]
    assert_installed(machine, native=False)


def test_switched_off(machine):
    process, lines = pip_install(machine, ".", ZOOMKERN_NATIVE="0")
    assert process.returncode == 0, process.stdout
    assert lines == ["zoomkern: pure Python, without native libraries: ZOOMKERN_NATIVE=0"]
    assert_installed(machine, native=False)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"CXX": "/bin/false"}, "ZOOMKERN_NATIVE=0 pip install ."),
        ({"ZOOMKERN_CUDA": "1", "ZOOMKERN_NATIVE": "0"}, "asked for, but ZOOMKERN_NATIVE=0"),
        ({"ZOOMKERN_NATIVE": "yes"}, "must be 0, 1 or auto; got 'yes'"),
    ],
    ids=["broken compiler", "contradiction", "bad value"],
)
def test_failure_is_one_sentence(machine, environment, sentence):
    process, lines = pip_install(machine, "--no-build-isolation", ".", **environment)
    assert process.returncode != 0
    (line,) = lines
    assert sentence in line


def test_forced_without_compiler(machine):
    process, lines = pip_install(machine, "--no-build-isolation", ".", ZOOMKERN_NATIVE="1", **without_compiler(machine))
    assert process.returncode != 0
    assert lines == ["zoomkern: the native libraries are asked for, but no C++ compiler was found"]


def test_an_editable_install_is_found_beside_a_folder_of_its_name(machine):
    """A clone is such a folder, and its parent is where people start their scripts."""
    shutil.copytree(machine.folder / "source", machine.folder / "zoomkern")
    process, _ = pip_install(machine, "-e", str(machine.folder / "zoomkern"), ZOOMKERN_NATIVE="0")
    assert process.returncode == 0, process.stdout
    assert run(machine, machine.bin / "python", "-c", DRAW).count(",") == 2

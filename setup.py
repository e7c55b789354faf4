"""Builds the native libraries with CMake, against the torch that is already there; pyproject.toml says the rest."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
WITHOUT = "`ZOOMKERN_NATIVE=0 pip install .` installs the pure Python package"


def choice(name: str) -> str:
    value = os.environ.get(name) or "auto"
    if value not in ("0", "1", "auto"):
        raise SystemExit(f"zoomkern: {name} must be 0, 1 or auto; got {value!r}")
    return value


def find_compiler() -> str | None:
    return os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)


def find_torch() -> Path | None:
    """The newest-enough torch on disk: importable, or beside the running Python (where pip's isolation hides it)."""
    candidates = [os.environ.get("ZOOMKERN_TORCH", "")]
    if spec := importlib.util.find_spec("torch"):
        candidates += spec.submodule_search_locations or []
    for base in (sys.prefix, sys.base_prefix):
        paths = sysconfig.get_paths(vars={"base": base, "platbase": base})
        candidates += [os.path.join(paths[key], "torch") for key in ("purelib", "platlib")]
    candidates.append(os.path.join(site.getusersitepackages(), "torch"))
    for torch in map(Path, filter(None, candidates)):
        if (torch / "include/torch/csrc/stable/library.h").is_file():
            version = re.search(r"__version__ = '(\d+)\.(\d+)", (torch / "version.py").read_text())
            if version and (int(version[1]), int(version[2])) >= (2, 10):
                return torch
    return None


def why_pure() -> str | None:
    """The reason for a pure Python install, or None where native libraries are to be built."""
    if NATIVE == "0":
        return "ZOOMKERN_NATIVE=0"
    if sys.platform == "win32":
        return "the native libraries are not built on Windows"
    return None if find_compiler() else "no C++ compiler was found"


NATIVE, CUDA = choice("ZOOMKERN_NATIVE"), choice("ZOOMKERN_CUDA")
PURE, TORCH = why_pure(), find_torch()


class BuildPackage(build_py):
    """Copies the Python files, then adds the native libraries and the record of what was built and why."""

    def run(self) -> None:
        if PURE and "1" in (NATIVE, CUDA):
            raise SystemExit(f"zoomkern: the native libraries are asked for, but {PURE}")
        prefix = ROOT if self.editable_mode else Path(self.build_lib).resolve()
        package = prefix / "zoomkern"
        if self.editable_mode:
            shutil.rmtree(package / "lib", ignore_errors=True)
            for old in package.glob("_host*.so"):
                old.unlink()
        else:
            shutil.rmtree(package, ignore_errors=True)
        super().run()
        if PURE:
            record = {"native": f"off: {PURE}", "cuda": f"off: {PURE}"}
            (package / "_build.json").write_text(json.dumps(record, indent=2) + "\n")
            print(f"zoomkern: pure Python, without native libraries: {PURE}", flush=True)
        else:
            self.build_native(prefix)
            record = json.loads((package / "_build.json").read_text())
            print(
                f"zoomkern: native libraries for {', '.join(record['isa'])} by {record['compiler']} against torch "
                f"{record['torch']}; page-locked memory {record['host']}; CUDA {record['cuda']}",
                flush=True,
            )

    def build_native(self, prefix: Path) -> None:
        folder = Path(self.get_finalized_command("build").build_temp).resolve() / "cmake"
        shutil.rmtree(folder, ignore_errors=True)  # the tools of an isolated build live elsewhere each time
        configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DZOOMKERN_TORCH={TORCH}"]
        configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-DZOOMKERN_CUDA={CUDA}"]
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", folder], check=True)
            subprocess.run(["cmake", "--install", folder, "--prefix", prefix], check=True)
        except FileNotFoundError:
            raise SystemExit(f"zoomkern: cmake is missing: pip install cmake ninja pybind11; {WITHOUT}") from None
        except subprocess.CalledProcessError:
            raise SystemExit(f"zoomkern: building with {find_compiler()} failed, as shown above; {WITHOUT}") from None


class PlatformDistribution(Distribution):
    """Makes the wheel's tag name the platform when native libraries are inside."""

    def has_ext_modules(self) -> bool:
        return PURE is None


# In an editable install the tree's own path leads to the package: a finder would lose against a folder that is named
# as the package is, which is what a clone's parent directory holds.
setup(
    options={"editable_wheel": {"mode": "compat"}},
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildPackage},
    ext_modules=[],
    setup_requires=[] if PURE or TORCH else ["torch>=2.10"],
)

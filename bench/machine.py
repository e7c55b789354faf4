"""What a result row says about where it was measured. No host names."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from zoomkern.ops import backends

ROOT = Path(__file__).resolve().parents[1]
#: A change here makes a row's commit dirty; results, docs and figures do not.
SOURCES = ("zoomkern", "csrc", "bench", "CMakeLists.txt", "setup.py", ":!bench/results")


def accelerator(device: str) -> dict[str, object]:
    """For results of a GPU, its name."""
    return {} if device == "cpu" else {"gpu": torch.cuda.get_device_name()}


def describe() -> dict[str, object]:
    """Processor, cores, versions, SIMD level, and how busy the machine was."""
    native = backends.explain()["cpu"][0]
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "simd": torch.ops.zoomkern.simd_level() if native else "none: reference backend",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> tuple[str, bool]:
    """The commit, and whether the sources differ from it; ``ZOOMKERN_COMMIT`` names it where git is not at hand."""
    if given := os.environ.get("ZOOMKERN_COMMIT"):
        return given, False
    try:
        return _git("rev-parse", "--short=12", "HEAD"), bool(_git("status", "--porcelain", "--", *SOURCES))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

"""``zoomkern info``: what is installed, what is on, and why."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch

import zoomkern
from zoomkern.images.memory import host_module
from zoomkern.ops import backends

VARIABLES = (
    "ZOOMKERN_BACKEND",
    "ZOOMKERN_SIMD",
    "ZOOMKERN_CHECK",
    "ZOOMKERN_GATHER_MULTIPROCESSORS",
    "ZOOMKERN_DATA",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes none: the report is short enough to be whole."""


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    for title, lines in report().items():
        print(title)
        width = max(map(len, lines))
        for name, text in lines.items():
            print(f"  {name:<{width}}  {text}")
    return 0


def report() -> dict[str, dict[str, str]]:
    """The report's sections in order, each a table of names and sentences."""
    return {
        "versions": dict(versions()),
        "backends": {name: f"{'on ' if on else 'off'}  {why}" for name, (on, why) in backends.explain().items()},
        "processor": dict(processor()),
        "page-locked memory": pages(),
        "environment": {name: os.environ.get(name, "not set") for name in VARIABLES},
        "build": build(),
    }


def versions() -> Iterator[tuple[str, str]]:
    """The versions that decide what runs."""
    try:
        yield "zoomkern", importlib.metadata.version("zoomkern")
    except importlib.metadata.PackageNotFoundError:
        yield "zoomkern", "not installed: run from its source folder"
    yield "torch", torch.__version__
    yield "numpy", numpy.__version__
    yield "python", platform.python_version()


def processor() -> Iterator[tuple[str, str]]:
    """Threads, and the instruction sets that the CPU library found and uses."""
    yield "machine", platform.machine()
    yield "threads", f"{torch.get_num_threads()} of {os.cpu_count()}"
    loaded, why = backends.explain()["cpu"]
    if loaded:
        yield "features", torch.ops.zoomkern.cpu_features()
        yield "SIMD level", torch.ops.zoomkern.simd_level()
    else:
        yield "SIMD level", f"none: {why}"


def pages() -> dict[str, str]:
    """When memory is page-locked, and the limits on it as the operating system states them."""
    gpu = "at an image's first cuda_view" if torch.cuda.is_available() else "never: torch sees no CUDA device"
    host = host_module()
    if host is None:
        return {"registered": gpu, "limits": "unknown: zoomkern._host is not built, so pages are those of mmap"}
    return {"registered": gpu} | {name.replace("_", " "): limit(value) for name, value in host.limits().items()}


def limit(value: object) -> str:
    """A limit in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,} bytes" if isinstance(value, int) else str(value)


def build() -> dict[str, str]:
    """What was built at install time, and against what."""
    record = Path(zoomkern.__path__[0], "_build.json")
    if not record.is_file():
        return {"native": "off: used from its source folder, never built or installed"}
    entries = json.loads(record.read_text())
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in entries.items()}

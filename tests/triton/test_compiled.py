"""The sampling kernels compile for every architecture without a GPU, and their PTX holds what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[2]
DECIDING = ("race", "topk", "masses", "points")  # kernels whose last bit can change an index
READING = ("scan", "race", "topk", "masses", "dense gradient")  # kernels that read rows of scores


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, Any]]:
    """What ``compile_sampling.py`` found, by 'kernel, type of scores, architecture'."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("compile_sampling.py")), "80", "90", "100", "120"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def chosen(compiled: dict[str, dict[str, Any]], kernels: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    parts = {name: part for name, part in compiled.items() if name.startswith(kernels)}
    assert len(parts) >= 4 * len(kernels)
    return parts


def test_every_kernel_compiles_for_every_architecture(compiled: dict[str, dict[str, Any]]) -> None:
    for capability in (80, 90, 100, 120):
        least = 26 if capability == 90 else 13
        assert sum(name.endswith(f"sm_{capability}") for name in compiled) >= least


def test_nothing_that_decides_an_index_is_fused(compiled: dict[str, dict[str, Any]]) -> None:
    for name, part in chosen(compiled, DECIDING).items():
        assert part["fused"] == 0, name
        assert part["arithmetic"] > 0, name


def test_scores_are_read_sixteen_bytes_at_a_time(compiled: dict[str, dict[str, Any]]) -> None:
    for name, part in chosen(compiled, READING).items():
        if "of one" not in name and "16 items" not in name:
            assert ("v2.b64" if "fp64" in name else "v4.b32") in part["loads"], name


def test_nothing_is_read_byte_by_byte(compiled: dict[str, dict[str, Any]]) -> None:
    for name, part in compiled.items():
        assert part["loads"], name
        assert not any(load.endswith("b8") for load in part["loads"]), name

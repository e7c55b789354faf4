"""What ``sample_patches`` costs in memory: its output and O(B L), and of a memory map the pages of its patches.

Measured in fresh processes by ``bench/probe.py``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

#: Errors of the kernel's resident-set counters (64 pages per processor) and what malloc keeps for later.
SLACK = 6 * MIB
#: Bytes per item of the race that keeps everybody: two lists of indices, keys, and (key, index) pairs; its mark.
SCRATCH = 8 + 8 + 8 + 16 + 1
#: Outputs' worth of intermediate results: the plain torch of the reference gathers, fills, converts and stacks.
COPIES = {"cpu": 1, "reference": 6}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status, smaps and mincore")


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.probe").measure


@pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement", "topk"])
def test_peak_is_the_output_and_scratch_of_the_attention(measure, native, sampler):
    settings = {"batch": 2, "size": 4096, "grid": 128, "draws": 32, "patch": 128}

    found = measure("peak", who=native, sampler=sampler, **settings)

    if not found["reset"]:
        pytest.skip("the kernel does not let a process reset its peak")
    pixels = settings["batch"] * settings["size"] ** 2 * 3
    bound = found["output"] + SCRATCH * found["items"] + SLACK
    assert found["output"] - SLACK <= found["peak"] <= bound < pixels / 4


def test_peak_does_not_depend_on_the_size_of_the_image(measure, backend):
    settings = {"batch": 1, "grid": 64, "draws": 16, "patch": 64}

    small, large = (measure("peak", who=backend, size=size, **settings) for size in (512, 8192))

    if not small["reset"]:
        pytest.skip("the kernel does not let a process reset its peak")
    assert abs(large["peak"] - small["peak"]) <= SLACK
    assert max(small["peak"], large["peak"]) <= COPIES[backend] * small["output"] + SCRATCH * small["items"] + SLACK


def test_only_the_pages_of_the_patches_of_a_memory_map_become_resident(measure, backend):
    settings = {"height": 49152, "width": 65536, "grid": 256, "draws": 64, "patch": 128}  # 3.2 gigapixels, 9.7 GB

    found = measure("resident", who=backend, **settings)

    rows = settings["draws"] * settings["patch"]
    assert found["touched"] <= rows * 2 * 4096  # a row of 384 bytes lies in one page or two
    assert found["mapped"] == found["touched"]
    assert found["cached"] == found["touched"]
    if found["reset"]:
        assert found["peak"] <= found["touched"] + COPIES[backend] * found["output"] + SCRATCH * 256**2 + SLACK

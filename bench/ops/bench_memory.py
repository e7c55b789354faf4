"""Peak extra bytes of ``sample_patches``, and how much of a huge memory map becomes resident. Linux only.

Each number is of a fresh process (``bench/probe.py``); the clock of pytest-benchmark only runs along.
"""

from __future__ import annotations

import sys

import pytest

from bench import probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

PEAKS = {
    "small-images": {"size": 1024, "grid": 256},
    "large-images": {"size": 8192, "grid": 256},
    "wide-attention": {"size": 8192, "grid": 1024},
    "threshold": {"size": 8192, "grid": 256, "sampler": "threshold"},
}
COMMON = {"batch": 4, "draws": 64, "patch": 128}
MAP = {"height": 49152, "width": 65536, "grid": 256, "draws": 64, "patch": 128}


def entry(name, peak, mine, goal=None):
    return {"name": name, "time": None, "peak_bytes": peak, "ratio": peak / mine, "goal": goal, "missing": None}


@pytest.mark.parametrize("case", PEAKS)
def test_peak(benchmark, keep, case):
    settings = {**COMMON, **PEAKS[case]}
    ours = benchmark.pedantic(probe.measure, args=("peak",), kwargs={"who": "cpu", **settings}, rounds=1)
    settings.pop("sampler", None)
    rivals = {who: probe.measure("peak", who=who, **settings) for who in ("naive", "race")}
    if not ours["reset"]:
        pytest.skip("the kernel does not let a process reset its peak")
    side, grid = settings["size"], settings["grid"]
    keep(
        case,
        f"{PEAKS[case].get('sampler', 'gumbel')}, B = 4 of {side} x {side} x 3 uint8, {grid} x {grid} logits, N = 64, "
        "128 x 128 float32",
        [
            entry("naive pipeline", rivals["naive"]["peak"], ours["peak"]),
            entry("Gumbel topk, slices in place", rivals["race"]["peak"], ours["peak"]),
            entry("the output alone", ours["output"], ours["peak"]),
        ],
        peak_bytes=ours["peak"],
    )


def test_memory_map(benchmark, keep):
    ours = benchmark.pedantic(probe.measure, args=("resident",), kwargs={"who": "cpu", **MAP}, rounds=1)
    naive = probe.measure("resident", who="naive", **MAP)
    pixels = MAP["height"] * MAP["width"]
    work = f"{pixels / 1e9:.1f} gigapixels in a file of {pixels * 3 / 1e9:.1f} GB, N = 64, 128 x 128, bytes "
    for name, what in (("mapped", "mapped"), ("cached", "read from the file")):
        keep(
            f"map-{name}",
            work + what,
            [
                entry("naive pipeline on numpy.memmap", naive[name], ours[name]),
                entry("pages that hold a patch's pixels", ours["touched"], ours[name]),
            ],
            peak_bytes=ours[name],
        )

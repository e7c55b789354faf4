"""Peak extra bytes of ``sample_patches`` and of each op alone, and how much of a huge map becomes resident. Linux only.

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


#: Each op: what is said of it, its rivals, and the sizes of a call that loads the process and of the measured one.
ALONE = {
    "sampling": (
        "gumbel, B = 1, L = 10,000,000, N = 64",
        {"softmax + multinomial": "naive", "topk of logits + Gumbel": "race"},
        {"batch": 1, "items": 1000, "draws": 4},
        {"batch": 1, "items": 10_000_000, "draws": 64},
    ),
    "gathering": (
        "B = 4 of 4096 x 4096 x 3 uint8, N = 64, 128 x 128 float32",
        {"slice, stack, normalise": "naive", "unfold and index": "unfold"},
        {"batch": 1, "size": 64, "draws": 2, "patch": 16},
        {"batch": 4, "size": 4096, "draws": 64, "patch": 128},
    ),
    "expectation": (
        "B = 64, N = 256, D = 1024, float32, with both gradients",
        {"plain expression": "naive", "einsum": "einsum"},
        {"batch": 1, "draws": 2, "width": 8},
        {"batch": 64, "draws": 256, "width": 1024},
    ),
}


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


@pytest.mark.parametrize("op", ALONE)
def test_peak_of_an_op(benchmark, keep, op):
    work, rivals, small, large = ALONE[op]
    sizes = {"op": op, "small": small, "large": large}
    ours = benchmark.pedantic(probe.measure, args=("alone",), kwargs={"who": "cpu", **sizes}, rounds=1)
    if not ours["reset"]:
        pytest.skip("the kernel does not let a process reset its peak")
    peaks = {name: probe.measure("alone", who=who, **sizes)["peak"] for name, who in rivals.items()}
    keep(op, work, [entry(name, peak, ours["peak"]) for name, peak in peaks.items()], peak_bytes=ours["peak"])


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

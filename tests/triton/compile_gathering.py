"""Compiles gathering's kernels for the architectures that are named, and writes what their code holds as JSON.

A program of its own: in a process whose kernels are interpreted none can be compiled. No GPU is needed.
"""

from __future__ import annotations

import json
import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from zoomkern.triton import gathering, patches, tables

TILE = {"LINES": gathering.LINES, "RUN": gathering.RUN}
READ = {"CHANNELS": 3, "SHIFT": True, "CHANNELS_LAST": False, **TILE}
PLACE = {"LISTED": False, "SHARED": False, "ALIGN": 0, "SHIFT": True, "BLOCK": patches.BLOCK}
LONGS = {"table": "*i64", "offsets": "*i64", "conversion": "*fp64", "fault": "*i64"}
INDEXED = {**LONGS, "index": "*i64", "locations": "*i64"}
KERNELS = (
    ("gather to fp32", gathering._gather, {"out": "*fp32", **LONGS}, READ),
    ("gather to bf16", gathering._gather, {"out": "*bf16", **LONGS}, {**READ, "CHANNELS_LAST": True}),
    ("backward", gathering._gather_backward, {"grad": "*fp32", **LONGS}, {**READ, "WIDE": False}),
    ("place", patches._place, INDEXED, PLACE),
    ("write", tables._write, {"out": "*i64"}, {}),
)
#: For one architecture alone: every other value of what the launchers choose.
VARIANTS_FOR = 90
ONE, FOUR, LAST = {**READ, "CHANNELS": 1}, {**READ, "CHANNELS": 4, "SHIFT": False}, {"CHANNELS_LAST": True}
VARIANTS = (
    ("gather to fp16, one channel", gathering._gather, {"out": "*fp16", **LONGS}, ONE),
    ("gather to fp64, four channels", gathering._gather, {"out": "*fp64", **LONGS}, {**FOUR, **LAST}),
    ("backward, wide", gathering._gather_backward, {"grad": "*fp64", **LONGS}, {**READ, **LAST, "WIDE": True}),
    ("backward, four channels", gathering._gather_backward, {"grad": "*fp32", **LONGS}, {**FOUR, "WIDE": False}),
    ("place at corners", patches._place, INDEXED, {**PLACE, "ALIGN": patches.CORNERS.value, "SHIFT": False}),
    ("place as listed", patches._place, INDEXED, {**PLACE, "LISTED": True}),
    ("place as listed for all", patches._place, INDEXED, {**PLACE, "LISTED": True, "SHARED": True}),
)


def compiled(kernel: triton.JITFunction, pointers: dict[str, str], constants: dict[str, object], cc: int):
    """As the launcher has it: aligned pointers, and numbers of 64 bits of which nothing is known."""
    kinds = {p.name: "constexpr" if p.is_constexpr else pointers.get(p.name, "i64") for p in kernel.params}
    aligned = {(i,): [["tt.divisibility", 16]] for i, p in enumerate(kernel.params) if p.name in pointers}
    source = ASTSource(kernel, kinds, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", cc, 32), options={"enable_fp_fusion": False}).asm


def word_layouts(ttgir: str) -> list[str]:
    """Lanes of a warp along lines and words, for each load of words."""
    lanes = dict(re.findall(r"^(#\w+) = .*threadsPerWarp = (\[[^]]*\])", ttgir, re.MULTILINE))
    return [lanes[name] for name in re.findall(r"tt\.load .*tensor<[\dx]+!tt\.ptr<i32>, (#\w+)>", ttgir)]


def main() -> None:
    """``compile_gathering.py 80 90``: a row per kernel and architecture."""
    rows = []
    for cc in map(int, sys.argv[1:]):
        for name, kernel, pointers, constants in KERNELS + VARIANTS * (cc == VARIANTS_FOR):
            asm = compiled(kernel, pointers, constants, cc)
            loads = re.findall(r"\bld\.global[\w.:]*\.([a-z]+\d+)\b", asm["ptx"])
            fused = re.findall(r"\bfma\.\S+", asm["ptx"])
            rows.append({"cc": cc, "name": name, "loads": loads, "fused": fused, "lanes": word_layouts(asm["ttgir"])})
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()

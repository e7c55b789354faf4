"""Compiles every sampling kernel for the architectures that are named, and writes what its PTX holds as JSON.

A program of its own: in a process whose kernels are interpreted none can be compiled. No GPU is needed.
"""

from __future__ import annotations

import json
import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from zoomkern.triton import faults, masses, race, sampling, statistics, weights

CHUNK = sampling.CHUNK
KINDS = {"fp16": "*fp16", "bf16": "*bf16", "fp32": "*fp32", "fp64": "*fp64"}
DOUBLE, LONG = "*fp64", "*i64"
SIZES = {"items": "i32", "chunks": "i32", "draws": "i32", "tiles": "i32", "width": "i32", "count": "i32"}
EXACT = {"enable_fp_fusion": False}
FURTHER_FOR = 90  # the architecture for which further() is compiled, not the first that is named


def variants(scores: str) -> list[tuple[str, triton.JITFunction, dict[str, str], dict[str, object], dict[str, object]]]:
    """Name, kernel, types of its arguments, constants and options, for one type of scores."""
    logits = {"scores": KINDS[scores]}
    keys = {**logits, "top": DOUBLE, "seed": LONG, "ranks": LONG, "numbers": LONG, "kept": "i32"}
    select = {"RACE": True, "SELECT": True, "ROW_SEEDS": False, "CHUNK": CHUNK}
    everybody = {**select, "SELECT": False, "ROW_SEEDS": True}
    wide = {**EXACT, "num_warps": 8}
    parts = {"top": DOUBLE, "total": DOUBLE, "drawable": LONG, "wrong": LONG}
    rows = {"counts": LONG, "fault": LONG, "row_top": DOUBLE, "row_log_sum": DOUBLE, "row_draws": LONG}
    settle = {"REPEATS": False, "PAD": False, "COUNTED": True, "PARTS": statistics.PARTS}
    points = {"seed": LONG, "bound": LONG, "point": LONG, "blocks": "i32", "stream": "i32"}
    mass = {**logits, "top": DOUBLE, "mass": LONG, "scale": "fp32"}
    grads = {**logits, "lse": DOUBLE, "total": DOUBLE, "out": KINDS[scores]}
    kernels = [
        ("scan", statistics._scan, {**logits, **parts}, {"CHUNK": CHUNK}, EXACT),
        ("race", race._keys, keys, select, wide),
        ("race of everybody", race._keys, {**keys, "numbers": "constexpr"}, {**everybody, "numbers": None}, wide),
        ("topk", race._keys, keys, {**select, "RACE": False}, wide),
        ("masses", masses._masses, mass, {"CHUNK": CHUNK}, EXACT),
        ("dense gradient", sampling._dense, grads, {"CHUNK": CHUNK}, EXACT),
    ]
    if scores != "fp32":
        return kernels
    nodes = {"ratio": DOUBLE, "place": DOUBLE, "value": DOUBLE, "count": LONG}
    rule = dict(zip(("FALL", "WIDEST", "FEWEST", "SLACK"), list(weights.RULES.values())[1], strict=True))
    tile = {"NODES": weights.NODES, "BLOCK": weights.BLOCK}
    drawn = {**grads, "index": LONG, "grad": DOUBLE}
    return [
        *kernels,
        ("settle", statistics._settle, {**logits, **parts, **rows, "num_samples": "i32"}, settle, EXACT),
        ("points", masses._points, points, {"ROW_SEEDS": False, "BLOCK": 1024}, EXACT),
        ("nodes", weights._nodes, {**nodes, "draws": LONG}, {**rule, **tile}, {}),
        ("quadrature", weights._quadrature, {**nodes, "integral": DOUBLE}, tile, {}),
        (
            "sums of weights",
            weights._sums_from,
            {"prob": DOUBLE, "rest": DOUBLE, "left": DOUBLE},
            {"BLOCK": 1024},
            EXACT,
        ),
        ("index at fault", faults._note_index, {"fault": LONG, "wrong": LONG, "number": LONG}, {}, EXACT),
        ("drawn gradient", sampling._drawn, drawn, {"TILE": sampling.TILE}, EXACT),
    ]


def further() -> list[tuple[str, triton.JITFunction, dict[str, str], dict[str, object], dict[str, object]]]:
    """As :func:`variants`, for float32: every other value of what the launchers choose."""
    kernels = {name: entry for name, *entry in variants("fp32")}

    def other(name: str, words: str, **changed: object):  # type: ignore[no-untyped-def]
        kernel, types, constants, options = kernels[name]
        return f"{name}{words}", kernel, types, {**constants, **changed}, options

    rule = dict(zip(("FALL", "WIDEST", "FEWEST", "SLACK"), next(iter(weights.RULES.values())), strict=True))
    return [
        other("scan", ", 16 items", CHUNK=16),
        other("race", ", seeds of rows", ROW_SEEDS=True),
        other("race", ", 16 items", CHUNK=16),
        other("race of everybody", ", one seed", ROW_SEEDS=False),
        other("topk", " of everybody", SELECT=False, numbers=None),
        other("masses", ", 16 items", CHUNK=16),
        other("dense gradient", ", 16 items", CHUNK=16),
        other("settle", ", repeats", REPEATS=True, COUNTED=False, counts=None),
        other("settle", ", padded", PAD=True, PARTS=1),
        other("points", ", seeds of rows", ROW_SEEDS=True, BLOCK=4),
        other("nodes", ", for float32", **rule, BLOCK=16),
        other("quadrature", ", few draws", BLOCK=16),
        other("sums of weights", ", few draws", BLOCK=16),
    ]


def ptx(kernel, types, constants, options, capability: int, ones: bool) -> str:  # type: ignore[no-untyped-def]
    """PTX for rows whose items divide by 16, or for rows of one item, which the launcher turns into a constant."""
    if ones and "items" in kernel.arg_names:
        constants = {**constants, "items": 1}
    signature = {n: "constexpr" if n in constants else types.get(n) or SIZES[n] for n in kernel.arg_names}
    aligned = [i for i, n in enumerate(kernel.arg_names) if signature[n].startswith("*") or n == "items"]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned if signature[kernel.arg_names[i]] != "constexpr"}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"]


def main() -> None:
    """All types of scores for the first architecture, float32 for the others, and further variants for one."""
    found = {}
    for number, capability in enumerate(int(word) for word in sys.argv[1:]):
        cases = [(scores, False) for scores in KINDS] + [("fp32", True)] if number == 0 else [("fp32", False)]
        for scores, ones in cases:
            more = further() if capability == FURTHER_FOR and not ones else []
            for name, kernel, types, constants, options in variants(scores) + more:
                text = ptx(kernel, types, constants, options, capability, ones)
                found[f"{name}{' of one' if ones else ''}, {scores}, sm_{capability}"] = {
                    "loads": re.findall(r"ld\.global(?:\.(?!v\d|b\d)\w+)*\.((?:v\d\.)?b\d+)", text),
                    "fused": len(re.findall(r"\bfma\.", text)),
                    "arithmetic": len(re.findall(r"\b(?:mul|add)\.", text)),
                }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

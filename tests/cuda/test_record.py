"""The record of the CUDA kernels refuses machine code that is not as it has to be."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("record", Path(__file__).with_name("record.py"))
record = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(record)

GATHER, KEY = "reading::gather_patches<float>", "key_probe"
#: Instructions as cuobjdump prints them.
WIDE, NARROW = "LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;", "LDG.E.64.CONSTANT R4, desc[UR4][R2.64] ;"
PRODUCT, FUSED = "DMUL R2, R4, R6 ;", "DFMA R2, R4, R6, R8 ;"
SPILL, CONSTANT = "STL.64 [R1], R2 ;", "HFMA2 R1, -RZ, RZ, 0, 0 ;"


def disassembled(code):
    lines = {name: "".join(f"        /*0000*/   {line}\n" for line in code[name]) for name in code}
    return "\n".join(f"\t\tFunction : {name}\n{lines[name]}" for name in code)


def resources(names, architectures=record.ARCHITECTURES, stack=0):
    said = []
    for arch in architectures:
        said.append(f"arch = {arch}\ncode version = [1,8]\nResource usage:\n Common:\n  GLOBAL:0\n")
        said += [f" Function {name}:\n  REG:32 STACK:{stack} SHARED:0 LOCAL:0 CONSTANT[0]:400\n" for name in names]
    return "".join(said)


def kernels_of(code, **taken):
    """Kernels with the given code on every architecture but the last, where it may be another."""
    first, last = code if isinstance(code, tuple) else (code, code)
    found = record.usage(resources(first, **taken))
    texts = [disassembled(first)] * (len(record.ARCHITECTURES) - 1) + [disassembled(last)]
    counts = {arch: record.instructions(text) for arch, text in zip(record.ARCHITECTURES, texts, strict=True)}
    return [record.Kernel(name, found[name], {arch: counts[arch][name] for arch in counts}) for name in found]


GOOD = {GATHER: [WIDE, NARROW], KEY: [PRODUCT, CONSTANT], "put_numbers": [FUSED]}


def test_machine_code_as_it_has_to_be_is_taken():
    assert record.refusals(kernels_of(GOOD)) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ({**GOOD, GATHER: [NARROW]}, "does not load 16 bytes at a time"),
        ((GOOD, {**GOOD, GATHER: [NARROW]}), "does not load 16 bytes at a time"),
        ({**GOOD, KEY: [PRODUCT, FUSED]}, "has fused multiply-adds"),
        ((GOOD, {**GOOD, KEY: ["FFMA R2, R4, R6, R8 ;"]}), "has fused multiply-adds"),
        ({**GOOD, "put_numbers": [SPILL]}, "spills registers"),
        ({KEY: [PRODUCT]}, "no kernel reads patches"),
        ({GATHER: [WIDE]}, "no kernel is the arithmetic"),
    ],
)
def test_machine_code_that_is_not_is_refused(code, words):
    (said,) = record.refusals(kernels_of(code))
    assert words in said


def test_a_stack_and_a_missing_architecture_are_refused():
    assert all("spills registers" in said for said in record.refusals(kernels_of(GOOD, stack=8)))
    missing = record.refusals(kernels_of(GOOD, architectures=record.ARCHITECTURES[:-1]))
    assert len(missing) == len(GOOD)
    assert all("was not compiled for sm_120" in said for said in missing)


def test_a_kernel_of_which_no_launch_is_told_is_refused():
    with pytest.raises(SystemExit, match="0 times how put_numbers is launched"):
        record.table(kernels_of(GOOD), [(record.GATHER, "384", "1024")])


def test_a_record_tells_threads_and_shared_memory():
    launched = [(record.GATHER, "384", "40000"), (record.re.compile("put_numbers"), "32", "0")]
    lines = record.table(kernels_of(GOOD), launched).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert any(line.endswith("| 384 | 40000 | 0 | 0 | yes | 0 |") for line in lines)

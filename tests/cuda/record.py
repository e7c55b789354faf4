"""What the compiler made of the CUDA kernels: registers, memory, and the instructions that must be there or must not.

    python tests/cuda/record.py LIBRARY            # compares with docs/cuda-kernels.md
    python tests/cuda/record.py LIBRARY --write    # writes it anew

LIBRARY is libzoomkern_cuda.so, built for every architecture. Needs nvcc and no GPU: it reads machine code, by cuobjdump
from the CUDA toolkit or from the wheel of Triton.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

RECORD = Path(__file__).resolve().parents[2] / "docs" / "cuda-kernels.md"
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
#: Instructions that are counted: loads of 16 bytes, fused multiply-adds, stores to and loads from local memory.
COUNTED = {
    "LDG.128": re.compile(r"\bLDG\.E\.(?:[A-Z0-9_.]*\.)?128\b"),
    "FMA": re.compile(r"\b[FD]FMA\b"),  # HFMA2 is how constants are moved
    "local": re.compile(r"\b(?:STL|LDL)\b"),
}


def cuobjdump() -> str:
    """The path of the disassembler."""
    if found := shutil.which("cuobjdump"):
        return found
    if spec := importlib.util.find_spec("triton"):
        bundled = Path(spec.submodule_search_locations[0], "backends", "nvidia", "bin", "cuobjdump")
        if bundled.is_file():
            return str(bundled)
    raise SystemExit("cuobjdump is missing: install the CUDA toolkit, or pip install triton")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def short_name(symbol: str) -> str:
    """A kernel's name without namespaces, argument list and casts."""
    full = output("c++filt", symbol).strip()
    name = re.sub(r"zoomkern::(cuda::)?|\(anonymous namespace\)::|^void ", "", full)
    return re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)$", "", name).replace("(int)", "").replace("(bool)", "")


def usage(library: str) -> dict[str, dict[str, dict[str, int]]]:
    """kernel -> architecture -> what it takes."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    arch = kernel = ""
    for line in output(cuobjdump(), "-res-usage", library).splitlines():
        if match := re.match(r"\s*arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            kernel = match[1]
        elif "REG:" in line:
            found[kernel][arch] = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", line)}
    return found


def instructions(library: str, arch: str) -> dict[str, Counter[str]]:
    """kernel -> how often it has each of the counted instructions."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    kernel = ""
    for line in output(cuobjdump(), "-sass", "-arch", arch, library).splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            kernel = match[1]
        for name, pattern in COUNTED.items():
            found[kernel][name] += bool(pattern.search(line))
    return found


def table(files: list[str]) -> str:
    """The record of some libraries and objects as Markdown."""
    resources = {kernel: entries for file in files for kernel, entries in usage(file).items()}
    counts = {
        arch: {kernel: c for file in files for kernel, c in instructions(file, arch).items()} for arch in ARCHITECTURES
    }
    heads = ["kernel", *(f"registers {arch}" for arch in ARCHITECTURES), "stack", "spills", *list(COUNTED)[:2]]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for kernel in sorted(resources, key=short_name):
        if missing := [arch for arch in ARCHITECTURES if arch not in resources[kernel]]:
            raise SystemExit(f"{short_name(kernel)} was not compiled for {', '.join(missing)}")
        registers = [str(resources[kernel][arch]["REG"]) for arch in ARCHITECTURES]
        stack = max(entry["STACK"] for entry in resources[kernel].values())
        most = {name: [counts[arch][kernel][name] for arch in ARCHITECTURES] for name in COUNTED}
        cells = [f"`{short_name(kernel)}`", *registers, str(stack), str(max(most["local"]))]
        cells += ["yes" if min(most["LDG.128"]) else "no", str(max(most["FMA"]))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


HEADER = """\
# CUDA kernels as compiled

`python tests/cuda/record.py LIBRARY --write` makes this table from machine code (here nvcc {nvcc}), `make cuda-record`
compares; so does CI. Registers per thread; bytes of stack, and instructions that touch local memory (spills), at worst
over the architectures; whether there are loads of 16 bytes; and fused multiply-adds, of which divisions and `expf` are
made. None decides an index: `key_probe` is the arithmetic that does.

"""


def nvcc_version() -> str:
    return re.search(r"release (\S+),", output("nvcc", "--version"))[1]  # type: ignore[index]


def compiled_probe(folder: str) -> str:
    """The object file of key_probe.cu, compiled for every architecture as the library is."""
    source, target = Path(__file__).with_name("key_probe.cu"), f"{folder}/key_probe.o"
    codes = [f"-gencode=arch={arch.replace('sm', 'compute')},code={arch}" for arch in ARCHITECTURES]
    csrc = Path(__file__).resolve().parents[2] / "csrc"
    output("nvcc", "-O3", "-std=c++17", "--fmad=false", *codes, f"-I{csrc}", "-c", str(source), "-o", target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = HEADER.format(nvcc=nvcc_version()) + table([arguments.library, compiled_probe(folder)])
    if spilling := [line for line in text.splitlines() if re.search(r"`.*`( \| \d+){6} \| (?!0 \| 0 )", line)]:
        raise SystemExit("these kernels spill registers:\n" + "\n".join(spilling))
    if arguments.write:
        RECORD.write_text(text)
        return 0
    before, after = RECORD.read_text().splitlines(), text.splitlines()
    for line in difflib.unified_diff(before, after, "recorded", "compiled", n=0, lineterm=""):
        print(line)
    print("the record holds" if before == after else f"{RECORD.name} differs; --write takes over what was compiled")
    return before != after


if __name__ == "__main__":
    sys.exit(main())

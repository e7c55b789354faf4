"""What the compiler made of the CUDA kernels: registers, memory, and the instructions that must be there or must not.

    python tests/cuda/record.py LIBRARY            # compares with docs/cuda-kernels.md
    python tests/cuda/record.py LIBRARY --write    # writes it anew

LIBRARY is libzoomkern_cuda.so, built for every architecture. Needs nvcc and no GPU: it reads machine code, by cuobjdump
from the CUDA toolkit or from the wheel of Triton. The flags of the library are those of compile_commands.json beside
it, and else those that CMake gives anew, which needs cmake and a torch with CUDA.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "cuda-kernels.md"
SOURCES = ROOT / "csrc" / "cuda"
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
#: Instructions that are counted: loads of 16 bytes, fused multiply-adds, stores to and loads from local memory.
COUNTED = {
    "LDG.128": re.compile(r"\bLDG\.E\.(?:[A-Z0-9_.]*\.)?128\b"),
    "FMA": re.compile(r"\b[FD]FMA\b"),  # HFMA2 is how constants are moved
    "local": re.compile(r"\b(?:STL|LDL)\b"),
}
GATHER, KEY = re.compile(r"\bgather_patches<"), re.compile(r"key_probe")
#: Kernels, and the threads of a block and its bytes of shared memory in the words of their launches, which the compiler
#: turns into numbers. Sources that launch with other words are refused.
LAUNCHES = (
    (r"draw_short_rows<.*WarpTeam", "kTeamsOfWarps * kWarp", "kTeamsOfWarps * Desk<Few>::kBytes"),
    (r"draw_short_rows<.*BlockTeam", "Some::kSize", "Desk<Some>::kBytes + row"),
    (r"_long_rows<", "Many::kSize", "Desk<Many>::kBytes"),
    (r"backward_rows<WarpTeam", "kTeamsOfWarps * kWarp", "kTeamsOfWarps * BackwardShared<Few, kWarpRow>::kBytes"),
    (r"backward_rows<BlockTeam", "Some::kSize", "BackwardShared<Some, kPiece>::kBytes"),
    (r"gather_patches<", "reading::kGatherThreads", "reading::kGatherShared"),
    (r"add_patches", "gradient::kThreads", "gradient::kShared"),
    (r"put_numbers", "kWarp", "0"),
)


class Kernel(NamedTuple):
    """What a kernel takes, and how often its code has each of the counted instructions, by architecture."""

    name: str
    resources: dict[str, dict[str, int]]
    counts: dict[str, Counter[str]]

    def all(self, instruction: str) -> list[int]:
        return [self.counts[arch][instruction] for arch in ARCHITECTURES]


def cuobjdump() -> str:
    """The path of the disassembler."""
    if found := shutil.which("cuobjdump"):
        return found
    if spec := importlib.util.find_spec("triton"):
        bundled = Path(spec.submodule_search_locations[0], "backends", "nvidia", "bin", "cuobjdump")
        if bundled.is_file():
            return str(bundled)
    raise SystemExit("cuobjdump is missing: install the CUDA toolkit, or pip install triton")


def output(*command: str, cwd: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@functools.cache
def short_name(symbol: str) -> str:
    """A kernel's name without namespaces, argument list and casts."""
    full = output("c++filt", symbol).strip()
    name = re.sub(r"zoomkern::(cuda::)?|\(anonymous namespace\)::|^void ", "", full)
    return re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)$", "", name).replace("(int)", "").replace("(bool)", "")


def usage(text: str) -> dict[str, dict[str, dict[str, int]]]:
    """kernel -> architecture -> what it takes, from what ``cuobjdump -res-usage`` says."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    arch = kernel = ""
    for line in text.splitlines():
        if match := re.match(r"\s*arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            kernel = match[1]
        elif "REG:" in line:
            found[kernel][arch] = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", line)}
    return found


def instructions(text: str) -> dict[str, Counter[str]]:
    """kernel -> how often it has each of the counted instructions, from what ``cuobjdump -sass`` says."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    kernel = ""
    for line in text.splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            kernel = match[1]
        for name, pattern in COUNTED.items():
            found[kernel][name] += bool(pattern.search(line))
    return found


def kernels_of(file: str) -> list[Kernel]:
    """The kernels of a library or an object."""
    found = usage(output(cuobjdump(), "-res-usage", file))
    counts = {arch: instructions(output(cuobjdump(), "-sass", "-arch", arch, file)) for arch in ARCHITECTURES}
    return [
        Kernel(short_name(symbol), resources, {arch: counts[arch][symbol] for arch in ARCHITECTURES})
        for symbol, resources in found.items()
    ]


def refusals(kernels: list[Kernel]) -> list[str]:
    """What must not be recorded: a sentence for each kernel that is not as it has to be."""
    words = []
    for kernel in kernels:
        if missing := [arch for arch in ARCHITECTURES if arch not in kernel.resources]:
            words.append(f"{kernel.name} was not compiled for {', '.join(missing)}")
            continue
        if any(entry["STACK"] for entry in kernel.resources.values()) or any(kernel.all("local")):
            words.append(f"{kernel.name} spills registers")
        if GATHER.search(kernel.name) and not all(kernel.all("LDG.128")):
            words.append(f"{kernel.name} does not load 16 bytes at a time (LDG.E.128)")
        if KEY.search(kernel.name) and any(kernel.all("FMA")):
            words.append(f"{kernel.name}, the arithmetic that decides an index, has fused multiply-adds")
    for what, pattern in (("reads patches", GATHER), ("is the arithmetic that decides an index", KEY)):
        if not any(pattern.search(kernel.name) for kernel in kernels):
            words.append(f"no kernel {what}: looked for {pattern.pattern!r}")
    return words


def flags_of(library: str, folder: str) -> tuple[list[str], str]:
    """CMake's command that compiles a file of the library, without what names the file, and where it is given."""
    commands = Path(library).resolve().parent / "compile_commands.json"
    if not commands.is_file():
        torch = importlib.util.find_spec("torch")
        at = torch.submodule_search_locations[0] if torch else ""
        settings = [f"-DZOOMKERN_TORCH={at}", f"-DPython_EXECUTABLE={sys.executable}", "-DZOOMKERN_CUDA=1"]
        output("cmake", "-S", str(ROOT), "-B", f"{folder}/cmake", *settings)
        commands = Path(folder, "cmake", "compile_commands.json")
    for entry in json.loads(commands.read_text()):
        if entry["file"].endswith("csrc/cuda/sampling.cu"):
            words = shlex.split(entry["command"])
            drop = {words.index("-o"), words.index("-o") + 1, words.index("-c"), words.index("-c") + 1}
            return [word for i, word in enumerate(words) if i not in drop], entry["directory"]
    raise SystemExit(f"{commands} does not say how csrc/cuda/sampling.cu is compiled")


def compiled_probe(flags: list[str], cwd: str, folder: str) -> str:
    """The object file of key_probe.cu, compiled as the library is."""
    target = f"{folder}/key_probe.o"
    output(*flags, f"-I{ROOT / 'csrc'}", "-c", str(Path(__file__).with_name("key_probe.cu")), "-o", target, cwd=cwd)
    return target


def launches(flags: list[str], cwd: str, folder: str) -> list[tuple[re.Pattern[str], str, str]]:
    """Kernels, and the threads and the bytes of shared memory that they are launched with.

    A program prints them, made of the kernels' own headers and of the names that stand before the launches.
    """
    text = "".join((SOURCES / f"{stem}.cu").read_text() for stem in ("sampling", "gathering"))
    plain = re.sub(r"\s+", " ", text)
    if other := [entry for entry in LAUNCHES if f"{entry[1]}, {entry[2]}, " not in plain]:
        wanted = "\n".join(f"{kernel}: {threads}, {shared}" for kernel, threads, shared in other)
        raise SystemExit(f"csrc/cuda launches these kernels with other words than LAUNCHES of {__file__}:\n{wanted}")
    headers = ("backward", "drawing", "gathering", "image_gradient")
    named = re.findall(r"^(?:using \w+ = [^;]*;|constexpr \w+ k\w+ = [^;]*;)", text, re.MULTILINE)
    lines = [f'#include "cuda/{name}.cuh"' for name in headers]
    lines += ["#include <cstdio>", "namespace zoomkern::cuda {", *named]
    lines += ["constexpr size_t row = kMostKept;  // the longest", "void print() {"]
    for _, threads, shared in LAUNCHES:
        lines.append(f'  std::printf("%zu %zu\\n", static_cast<size_t>({threads}), static_cast<size_t>({shared}));')
    lines += ["}", "}", "int main() { zoomkern::cuda::print(); }"]
    source, program = Path(folder, "launches.cu"), f"{folder}/launches"
    source.write_text("\n".join(lines) + "\n")
    here = [word for word in flags if not word.startswith("--generate-code")]
    output(*here, f"-I{ROOT / 'csrc'}", str(source), "-o", program, cwd=cwd)
    numbers = (line.split() for line in output(program).splitlines())
    return [(re.compile(entry[0]), *pair) for entry, pair in zip(LAUNCHES, numbers, strict=True)]


def table(kernels: list[Kernel], launched: list[tuple[re.Pattern[str], str, str]]) -> str:
    """The record as Markdown."""
    registers = [f"registers {arch}" for arch in ARCHITECTURES]
    heads = ["kernel", *registers, "threads", "shared memory", "stack", "spills", *list(COUNTED)[:2]]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for kernel in sorted(kernels, key=lambda kernel: kernel.name):
        ways = [tuple(way) for pattern, *way in launched if pattern.search(kernel.name)]
        if KEY.search(kernel.name):
            ways = [("", "")]  # nobody launches it
        if len(ways) != 1:
            raise SystemExit(f"LAUNCHES of {__file__} says {len(ways)} times how {kernel.name} is launched, not once")
        stack = max(entry["STACK"] for entry in kernel.resources.values())
        cells = [f"`{kernel.name}`", *(str(kernel.resources[arch]["REG"]) for arch in ARCHITECTURES), *ways[0]]
        cells += [str(stack), str(max(kernel.all("local"))), "yes" if min(kernel.all("LDG.128")) else "no"]
        lines.append("| " + " | ".join([*cells, str(max(kernel.all("FMA")))]) + " |")
    return "\n".join(lines) + "\n"


HEADER = """\
# CUDA kernels as compiled

`python tests/cuda/record.py LIBRARY --write` makes this table from machine code (here nvcc {nvcc}), `make cuda-record`
compares; so does CI. Registers per thread; threads of a block and its bytes of shared memory, as the kernel is launched
(all of it is dynamic and not in machine code: a compiled program prints the constants of the launches; a block that
keeps its row there is given room for that row, here the longest); bytes of stack, and instructions that touch local
memory (spills), at worst over the architectures; whether there are loads of 16 bytes; and fused multiply-adds, of which
divisions and `expf` are made. None decides an index: `key_probe` is the arithmetic that does, compiled with the
library's flags.

Nothing is recorded where a kernel lacks an architecture or spills, where one of `gather_patches` has no load of 16
bytes (`LDG.E.128`) on some architecture, or where `key_probe` has a fused multiply-add.

"""


def nvcc_version(compiler: str) -> str:
    return re.search(r"release (\S+),", output(compiler, "--version"))[1]  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not Path(arguments.library).is_file():
        parser.error(f"there is no {arguments.library}: build it first, as docs/backends.md says")
    with tempfile.TemporaryDirectory() as folder:
        flags, cwd = flags_of(arguments.library, folder)
        launched = launches(flags, cwd, folder)
        kernels = kernels_of(arguments.library) + kernels_of(compiled_probe(flags, cwd, folder))
    if words := refusals(kernels):
        raise SystemExit("\n".join(words))
    text = HEADER.format(nvcc=nvcc_version(flags[0])) + table(kernels, launched)
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

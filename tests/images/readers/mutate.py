"""Damages image files again and again and reads them: ``mutate.py READER COUNT SEED FILE...`` prints one JSON.

Nothing but a ReadError may come of it: no crash, no other exception, no hang, no memory that grows. It runs in a
process of its own, under a limit of address space, so that what a damaged header asks for is refused there.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from zoomkern.images.readers import ReadError

READERS = {
    "AperioReader": "aperio",
    "ArrayReader": "arrays",
    "ConvertedReader": "converted",
    "PictureReader": "pictures",
    "SlideReader": "slides",
    "TiffReader": "tiff",
    "ZarrReader": "zarrs",
}

#: A picture decodes as a whole, so its memory is what this allows.
MOST_PIXELS = 1 << 24

#: Bytes of address space beyond what the process has once it read the whole file.
ROOM = 4 << 30

#: Seconds after which a hang ends the process with a traceback.
HANG = 60


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """One of: bits flipped anywhere, bits flipped in the first or last bytes, an interval overwritten, a cut."""
    damaged = bytearray(data)
    kind = random.integers(6)
    if kind == 0 and len(damaged) > 1:
        return bytes(damaged[: random.integers(len(damaged))])
    if kind == 1:
        start = int(random.integers(len(damaged)))
        piece = random.integers(0, 256, random.integers(1, 64), np.uint8).tobytes()
        damaged[start : start + len(piece)] = piece
        return bytes(damaged[: len(data)])
    window = {2: (0, 512), 3: (0, 64), 4: (max(0, len(data) - 1024), len(data)), 5: (0, len(data))}[int(kind)]
    low, high = window[0], min(window[1], len(data))
    for place in random.integers(low, high, random.integers(1, 9)):
        damaged[place] = random.choice((0, 1, 0x7F, 0xFF, damaged[place] ^ 1 << int(random.integers(8))))
    return bytes(damaged)


def read(reader_class: type, path: Path) -> None:
    """Opens an image and reads a middle, an edge and a tile of every level."""
    limits = {"max_pixels": MOST_PIXELS} if reader_class.__name__ == "PictureReader" else {}
    reader = reader_class(path, **limits)
    for level, (width, height) in enumerate(reader.level_dimensions):
        for y, x in ((height // 2, width // 2), (height - 8, width - 8)):
            reader.read_window(level, y, x, 48, 48)
        if reader.header.tile_sizes[level] is not None:
            reader.decode_tile(level, reader.tile_bytes(level, 0, 0))


def main(name: str, count: int, seed: int, sources: list[Path]) -> dict[str, object]:
    logging.disable()
    faulthandler.enable()
    reader_class = getattr(importlib.import_module(f"zoomkern.images.readers.{READERS[name]}"), name)
    random = np.random.default_rng(seed)
    victims = []  # a copy of each source, and its files with what they hold
    folder = Path(tempfile.mkdtemp())
    for number, source in enumerate(sources):
        read(reader_class, source)
        copy = folder / str(number) / source.name
        copy.parent.mkdir()
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
        files = sorted(file for file in copy.rglob("*") if file.is_file()) or [copy]
        victims.append((copy, [(file, file.read_bytes()) for file in files]))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, others, slowest = 0, {}, 0.0
    for number in range(count):
        copy, files = victims[number % len(victims)]
        file, whole = files[random.integers(len(files))]
        file.write_bytes(mutated(whole, random))
        faulthandler.dump_traceback_later(HANG, exit=True)
        start = time.perf_counter()
        try:
            read(reader_class, copy)
        except ReadError:
            refused += 1
        except Exception as error:
            others.setdefault(f"{type(error).__name__}: {error}"[:300], f"number {number}: {copy.name}")
        slowest = max(slowest, time.perf_counter() - start)
        faulthandler.cancel_dump_traceback_later()
        file.write_bytes(whole)
    shutil.rmtree(folder)
    return {
        "reader": name,
        "seed": seed,
        "damaged files": count,
        "refused": refused,
        "other exceptions": others,
        "slowest seconds": round(slowest, 3),
        "memory grown MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
    }


if __name__ == "__main__":
    _, reader, how_many, seed, *paths = sys.argv
    print(json.dumps(main(reader, int(how_many), int(seed), list(map(Path, paths)))))

"""Peak and resident memory of one call, in a process of its own: ``measure("peak", ...)`` starts it. Linux only."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoomkern
from bench import baselines, workloads
from bench.workloads import MEAN, STD

ROOT = Path(__file__).resolve().parents[1]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(what: str, **settings: Any) -> dict[str, Any]:
    """Runs :func:`peak`, :func:`resident` or :func:`alone` in a fresh process."""
    package = Path(zoomkern.__file__).parents[1]
    path = os.pathsep.join([str(package), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, "-m", "bench.probe", json.dumps({"what": what, **settings})]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def status(name: str) -> int:
    """Bytes of ``VmRSS``, ``VmHWM`` (its peak) or ``RssAnon``."""
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) * 1024


def reset_peak() -> bool:
    """Sets VmHWM back to VmRSS; False where the kernel forbids it."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def call(who: str, images: list[torch.Tensor], logits: torch.Tensor, draws: int, patch: int, options: Any) -> Any:
    if who == "naive":
        return baselines.naive_pipeline(images, logits, draws, patch)
    if who == "race":
        return baselines.race_pipeline(images, logits, draws, patch)
    return zoomkern.sample_patches(
        images, logits, draws, patch, mean=MEAN, std=STD, padding_mode="shift", backend=who, **options
    )


def draw(who: str, batch: int, items: int, draws: int) -> Callable[[], Any]:
    """Sampling alone."""
    logits = workloads.attention(batch, items)
    rivals = {"naive": baselines.softmax_multinomial, "race": baselines.gumbel_topk}
    return lambda: rivals[who](logits, draws) if who in rivals else zoomkern.sample(logits, draws, seed=0, backend=who)


def gather(who: str, batch: int, size: int, draws: int, patch: int) -> Callable[[], Any]:
    """Gathering alone."""
    images, at = workloads.pictures(batch, size), workloads.places(batch, draws, size, patch)
    rivals = {"naive": baselines.slice_stack, "unfold": baselines.unfold_index}
    return lambda: (
        rivals[who](images, at, patch)
        if who in rivals
        else zoomkern.gather_patches(images, at, patch, mean=MEAN, std=STD, backend=who)
    )


def pool(who: str, batch: int, draws: int, width: int) -> Callable[[], Any]:
    """The expectation of features, with both gradients."""
    drawn = zoomkern.sample(workloads.attention(batch, 1024), draws, seed=0)
    features, log_prob = torch.randn(batch, draws, width).requires_grad_(), drawn.log_prob.detach().requires_grad_()
    rivals = {"naive": baselines.weighted_sum, "einsum": baselines.weighted_einsum}

    def run() -> Any:
        if who in rivals:
            pooled = rivals[who](features, log_prob, drawn.weight)
        else:
            pooled = zoomkern.expectation(features, drawn._replace(log_prob=log_prob), backend=who)
        return torch.autograd.grad(pooled.sum(), (features, log_prob))

    return run


OPS = {"sampling": draw, "gathering": gather, "expectation": pool}


def alone(op: str, who: str, small: dict[str, int], large: dict[str, int]) -> dict[str, Any]:
    """As :func:`peak` of one op: the small call loads what a process loads once, the large one is measured."""
    torch.set_num_threads(2)
    OPS[op](who, **small)()
    run = OPS[op](who, **large)
    reset = reset_peak()
    before = status("VmRSS")
    kept = run()  # its memory counts
    return {"peak": status("VmHWM") - before, "reset": reset, "outputs": len(kept)}


def peak(who: str, batch: int, size: int, grid: int, draws: int, patch: int, **options: Any) -> dict[str, Any]:
    """Peak bytes above those resident before the call; a small call first loads what a process loads once."""
    torch.set_num_threads(2)
    images, logits = workloads.pictures(batch, size), workloads.attention(batch, grid, grid)
    call(who, workloads.pictures(1, 64), workloads.attention(1, 64, 64), 2, 16, options)
    reset = reset_peak()
    before = status("VmRSS")
    call(who, images, logits, draws, patch, options)
    output = batch * draws * 3 * patch * patch * 4
    return {"peak": status("VmHWM") - before, "output": output, "items": logits.numel(), "reset": reset}


def resident(who: str, height: int, width: int, grid: int, draws: int, patch: int) -> dict[str, Any]:
    """Bytes of a mapped sparse RGB file that one call brings into memory, and of the pages it must touch."""
    with tempfile.NamedTemporaryFile(suffix=".raw") as file:
        file.truncate(height * width * 3)
        shape = (height, width, 3)
        if who == "naive":
            image = torch.from_numpy(np.memmap(file.name, np.uint8, "r", shape=shape)).permute(2, 0, 1)
        else:
            image = zoomkern.PinnedImage.from_memmap(file.name, shape, np.uint8).tensor
        logits = workloads.attention(1, grid, grid)
        call(who, workloads.pictures(1, 64), workloads.attention(1, 64, 64), 2, 16, {})
        reset = reset_peak()
        before = status("VmRSS")
        drawn = call(who, [image], logits, draws, patch, {})
        found = {
            "peak": status("VmHWM") - before,
            "mapped": mapped(image.data_ptr()),
            "cached": cached(image.data_ptr(), height * width * 3),
        }
        touched = None if who == "naive" else touched_pages(drawn.offsets[0].numpy(), patch, width) * mmap.PAGESIZE
    output = draws * 3 * patch * patch * 4
    return {**found, "touched": touched, "output": output, "file": height * width * 3, "reset": reset}


def touched_pages(offsets: np.ndarray[Any, Any], patch: int, width: int) -> int:
    """Pages that hold a pixel of a patch."""
    starts = ((offsets[:, :1] + np.arange(patch)) * width + offsets[:, 1:]) * 3
    first, last = starts // mmap.PAGESIZE, (starts + 3 * patch - 1) // mmap.PAGESIZE
    spans = [np.arange(a, b + 1) for a, b in zip(first.ravel(), last.ravel(), strict=True)]
    return len(np.unique(np.concatenate(spans)))


def mapped(address: int) -> int:
    """Resident bytes of the mapping that holds an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no mapping holds the address")


def cached(address: int, size: int) -> int:
    """Bytes of a mapped file that are in memory, mapped or not: what was read from the file, read-ahead included."""
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages):
        raise OSError(ctypes.get_errno(), "mincore")
    return int((np.frombuffer(pages, np.uint8) & 1).sum()) * mmap.PAGESIZE


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    print(json.dumps({"peak": peak, "resident": resident, "alone": alone}[settings.pop("what")](**settings)))

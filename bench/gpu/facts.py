"""What a GPU and its driver say of themselves, as JSON: the questions whose answers decide how patches are read."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import Any

import numpy as np
import torch

import zoomkern
from bench import baselines, machine
from bench.gpu import link
from zoomkern import PinnedImage

#: Numbers of CUDA's device attributes.
ATTRIBUTES = {
    "CanUseHostPointerForRegisteredMem": 91,
    "PageableMemoryAccessUsesHostPageTables": 100,
    "HostRegisterReadOnlySupported": 113,
    "HostNumaId": 134,
}
QUERY = "name,driver_version,pcie.link.gen.current,pcie.link.width.current,pcie.link.gen.max,clocks.sm,clocks.mem"


def smi() -> dict[str, str]:
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"], capture_output=True, text=True
    )
    return dict(zip(QUERY.split(","), map(str.strip, done.stdout.split(",")), strict=False))


def file_registration() -> str:
    """How CUDA takes memory that maps a file."""
    with tempfile.NamedTemporaryFile(suffix=".raw") as file:
        file.write(np.zeros((256, 256, 3), np.uint8).tobytes())
        file.flush()
        image = PinnedImage.from_memmap(file.name, (256, 256, 3), np.uint8)
        image.cuda_view()
        return str(image.registration)


def launches(run: Any) -> dict[str, int]:
    """Kernels and calls of the runtime that wait, in one call."""
    run()
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    events = list(profile.events())
    kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    waits = [e for e in events if "Synchronize" in e.name]
    return {"on the device": len(kernels), "waits (one is the profiler's own)": len(waits)}


def main() -> None:
    logits = torch.randn(1, 10**6, device="cuda")
    image = PinnedImage(torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8))
    grid = torch.randn(1, 100, 100, device="cuda")
    calls = {
        "zoomkern.sample": lambda: zoomkern.sample(logits, 64),
        "softmax + multinomial": lambda: baselines.softmax_multinomial(logits, 64),
        "topk of logits + Gumbel": lambda: baselines.gumbel_topk(logits, 64),
        "zoomkern.sample_patches": lambda: zoomkern.sample_patches([image], grid, 64, 100),
    }
    properties = torch.cuda.get_device_properties(0)
    found = {
        "machine": {**machine.describe(), **machine.accelerator("cuda")},
        "nvidia-smi": smi(),
        "multiprocessors": properties.multi_processor_count,
        "L2 bytes": properties.L2_cache_size,
        "attributes": {name: link.attribute(number) for name, number in ATTRIBUTES.items()},
        "registration of a file": file_registration(),
        "launches": {name: launches(run) for name, run in calls.items()},
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Loads one built CPU library into the running torch and prints a checksum of what it draws and reads.

    python tests/native/load_library.py .../zoomkern/lib/libzoomkern_cpu.so

The package around the library is used, so the same file runs under every torch whose Python this is called with.
"""

import hashlib
import sys
from pathlib import Path

library = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(library.parents[2]))

import torch  # noqa: E402

import zoomkern  # noqa: E402

assert str(library) in torch.ops.loaded_libraries, f"{library} was not loaded"

checksum = hashlib.sha256()
logits = (torch.arange(3 * 40_000).reshape(3, 200, 200) * 40_503 % 65_536) / 8192  # exact in float32
image = (torch.arange(3 * 700 * 900) * 2_654_435_761 % 251).to(torch.uint8).reshape(3, 700, 900)
for sampler in ("gumbel", "threshold", "replacement", "topk"):
    read = zoomkern.sample_patches([image] * 3, logits, 64, (32, 48), sampler=sampler, seed=7, scale=0.5, backend="cpu")
    for tensor in (read.index, read.offsets, read.patches):
        checksum.update(tensor.contiguous().numpy().tobytes())

print(f"torch {torch.__version__}", file=sys.stderr)
print(checksum.hexdigest())

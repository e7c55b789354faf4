"""Puts the emulated CUDA ops in the place of the CPU's: pytest -p tests.csrc.emulation.plugin.

ZOOMKERN_EMULATED names libzoomkern_emulated.so. ``backend="cpu"`` then means the CUDA kernels, so every test of ops
judges them; ZOOMKERN_CHECK=1 makes them raise where an error happens.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

_load = torch.ops.load_library


def _load_emulated(path: Any) -> None:
    _load(os.environ["ZOOMKERN_EMULATED"] if Path(path).stem == "libzoomkern_cpu" else path)


torch.ops.load_library = _load_emulated

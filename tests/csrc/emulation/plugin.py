"""Puts the emulated CUDA ops in the place of the CPU's: pytest -p tests.csrc.emulation.plugin.

ZOOMKERN_EMULATED names libzoomkern_emulated.so. ``backend="cpu"`` then means the CUDA kernels, so every test of ops
judges them; ZOOMKERN_CHECK=1 makes them raise where an error happens.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

#: Tests that an emulation has no time for, or that are about the CPU's own threads or caches.
LEFT_OUT = ("beyond_two_to_the_24", "1_000_readings", "on_any_number_of_threads", "beyond_the_caches")

_load = torch.ops.load_library


def _load_emulated(path: Any) -> None:
    _load(os.environ["ZOOMKERN_EMULATED"] if Path(path).stem == "libzoomkern_cpu" else path)


torch.ops.load_library = _load_emulated


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is not about the kernels."""

    def is_for_them(item: pytest.Item) -> bool:
        parameters = getattr(item, "callspec", None)
        judged = parameters is None or parameters.params.get("backend") != "reference"
        return judged and not any(name in item.nodeid for name in LEFT_OUT)

    config.hook.pytest_deselected(items=[item for item in items if not is_for_them(item)])
    items[:] = [item for item in items if is_for_them(item)]

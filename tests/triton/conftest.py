"""Triton without a GPU: kernels run in its interpreter, on CPU tensors."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
import torch

# Before anything imports Triton, which decides at its import. Where there is a GPU its kernels are compiled.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def device() -> torch.device:
    """Where kernels run: the GPU, or the CPU that interprets them."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture(autouse=True, scope="session")
def _fast_interpreter() -> None:
    """Half the interpreter's time goes into work that changes nothing: leave it out.

    It patches the language anew at every call of a device function, and prepares checks of overflow that are off.
    """
    from triton.runtime import interpreter

    function = interpreter.InterpretedFunction
    whole, seen = function.__call__, set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self in seen:
            return self.rewrite()(*args, **kwargs)
        seen.add(self)
        return whole(self, *args, **kwargs)

    function.__call__ = call
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)

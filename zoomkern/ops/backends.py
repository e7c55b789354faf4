"""Which backend serves a call, and why the others do not."""

from __future__ import annotations

import os

import torch
from torch.autograd import forward_ad

from zoomkern.ops.library import CPU_MISSING

BACKENDS = ("reference", "cpu", "cuda", "triton")

_NOT_YET = "this version has no {} kernels; CUDA tensors are served by the reference"
_ABSENT: dict[str, str | None] = {
    "reference": None,
    "cpu": CPU_MISSING,
    "cuda": _NOT_YET.format("CUDA"),
    "triton": _NOT_YET.format("Triton"),
}
_FORCED = os.environ.get("ZOOMKERN_BACKEND") or None


def _forward_mode() -> bool:
    """Whether dual numbers may be about: compiled ops would drop their tangents without a word."""
    return forward_ad._current_level >= 0 and not torch.compiler.is_compiling()


def explain() -> dict[str, tuple[bool, str]]:
    """For each backend, whether it is on, and a sentence that says why."""
    served = {"reference": "plain torch, on any device", "cpu": "C++ kernels for tensors in host memory"}
    return {name: (reason is None, reason or served[name]) for name, reason in _ABSENT.items()}


def choose(backend: str | None, device: torch.device) -> str:
    """The backend for tensors on ``device``: the one that was asked for, or the fastest that can.

    Raises:
        ValueError: an unknown backend, or one that cannot serve the call.
    """
    wanted = backend or _FORCED
    if wanted is None:
        return "cpu" if device.type == "cpu" and CPU_MISSING is None and not _forward_mode() else "reference"
    if wanted not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {wanted!r}.")
    if reason := _ABSENT[wanted]:
        raise ValueError(f"backend {wanted!r} cannot serve this call: {reason}.")
    if wanted != "reference" and _forward_mode():
        raise ValueError(f"backend {wanted!r} has no forward-mode derivatives; leave backend out for the reference's.")
    if wanted == "cpu" and device.type != "cpu":
        raise ValueError(f"backend 'cpu' reads tensors in host memory; got {device}. Move them with .cpu().")
    return wanted

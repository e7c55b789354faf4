"""Which backend serves a call, and why the others do not."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil

import torch
from torch.autograd import forward_ad

from zoomkern.ops.library import DIRECTORY, MISSING

BACKENDS = ("reference", "cpu", "cuda", "triton")

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_TRITON_MISSING = (
    "Triton is not installed; pip install triton"
    if not importlib.util.find_spec("triton")
    else None
    if _INTERPRETED or os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    else "Triton needs a C compiler; install gcc"
)
_ABSENT = {"reference": None, **MISSING, "triton": _TRITON_MISSING}
#: The kinds of device whose tensors a backend takes.
_DEVICES = {"cpu": ("cpu",), "cuda": ("cuda",), "triton": ("cuda", "cpu") if _INTERPRETED else ("cuda",)}
#: What a kind of device prefers, the fastest first.
_PREFERRED = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}
_SERVES = {
    "reference": "plain torch, on any device",
    "cpu": "C++ kernels for tensors in host memory",
    "cuda": "CUDA kernels for tensors on a GPU",
    "triton": "kernels compiled at run time, for tensors on a GPU" + " (interpreted here)" * _INTERPRETED,
}
_FORCED = os.environ.get("ZOOMKERN_BACKEND") or None


def _forward_mode() -> bool:
    """Whether dual numbers may be about: compiled ops would drop their tangents without a word."""
    return forward_ad._current_level >= 0 and not torch.compiler.is_compiling()


@functools.cache
def _compiled_for(index: int) -> bool:
    """Whether the CUDA library has code for a device: of its own generation, or PTX of an older one."""
    record = DIRECTORY.parent / "_build.json"
    built = json.loads(record.read_text()).get("cuda", "") if record.is_file() else ""
    major, minor = torch.cuda.get_device_capability(index)
    for word in built.removeprefix("on: ").split():
        own = tuple(int(part) for part in word.removesuffix("+PTX").split("."))
        if own <= (major, minor) and (own[0] == major or word.endswith("+PTX")):
            return True
    return not built.startswith("on: ")


def _without_code(device: torch.device) -> bool:
    return not torch.compiler.is_compiling() and not _compiled_for(device.index or 0)


def _needs_code(index: int) -> str:
    wanted = ".".join(map(str, torch.cuda.get_device_capability(index)))
    return f"its library has no code for compute capability {wanted}; build it with TORCH_CUDA_ARCH_LIST={wanted}"


def explain() -> dict[str, tuple[bool, str]]:
    """For each backend, whether it is on, and a sentence that says why."""
    reasons = dict(_ABSENT)
    if not torch.cuda.is_available():
        for name, devices in _DEVICES.items():
            if devices == ("cuda",) and reasons[name] is None:
                reasons[name] = f"{_SERVES[name]}; torch sees none"
    elif reasons["cuda"] is None and not _compiled_for(torch.cuda.current_device()):
        reasons["cuda"] = _needs_code(torch.cuda.current_device())
    return {name: (reason is None, reason or _SERVES[name]) for name, reason in reasons.items()}


def choose(backend: str | None, device: torch.device) -> str:
    """The backend for tensors on ``device``: the one that was asked for, or the fastest that can.

    Raises:
        ValueError: an unknown backend, or one that cannot serve the call.
    """
    wanted = backend or _FORCED
    if wanted is None:
        if _forward_mode():
            return "reference"
        for name in _PREFERRED.get(device.type, ()):
            if _ABSENT[name] is None and not (name == "cuda" and _without_code(device)):
                return name
        return "reference"
    asked = "" if backend else ", which ZOOMKERN_BACKEND asks for,"
    if wanted not in BACKENDS:
        name = "backend" if backend else "ZOOMKERN_BACKEND"
        raise ValueError(f"{name} must be one of {', '.join(BACKENDS)}; got {wanted!r}.")
    if reason := _ABSENT[wanted]:
        raise ValueError(f"backend {wanted!r}{asked} cannot serve this call: {reason}.")
    if wanted == "reference":
        return wanted
    if _forward_mode():
        raise ValueError(f"backend {wanted!r} has no forward-mode derivatives; leave backend out for the reference's.")
    if device.type not in _DEVICES[wanted]:
        takes, cure = _DEVICES[wanted][0], "Move them with .cpu()" if wanted == "cpu" else "Move them with .cuda()"
        if takes == "cuda" and not torch.cuda.is_available():
            cure = "torch sees no GPU here; leave backend out"
        raise ValueError(
            f"backend {wanted!r}{asked} cannot serve this call: it takes {takes} tensors; got {device}. {cure}."
        )
    if wanted == "cuda" and _without_code(device):
        raise ValueError(f"backend 'cuda'{asked} cannot serve this call: {_needs_code(device.index or 0)}.")
    return wanted

"""Value errors on a device: a kernel notes the first, and a later call that finds the note raises it.

A row that is at fault draws nothing: index -1, weight 0, log_prob 0; of an image at fault no pixel is read. The notes
lie in host memory, where a call looks without waiting for the device; ``ZOOMKERN_CHECK=1`` has every call wait, and
raise at once. What is noted stays until it is raised.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

NAN = tl.constexpr(1)
INFINITE = tl.constexpr(2)
SHORT = tl.constexpr(3)
INDEX = tl.constexpr(4)
COUNT = tl.constexpr(5)
TABLE = tl.constexpr(6)

_NOTES: dict[torch.device, Tensor] = {}


def notes(device: torch.device) -> Tensor:
    """The one int64 ``[4]`` of a device: kind of fault (0 is none), row, and the two numbers of :func:`note`.

    It is page-locked host memory, which kernels write too: device memory that is first asked for while a graph is
    recorded would belong to that graph.
    """
    if device not in _NOTES:
        with torch.inference_mode(False):  # whoever asks for it first, it serves other calls too
            _NOTES[device] = torch.zeros(4, dtype=torch.int64, pin_memory=device.type == "cuda")
    return _NOTES[device]


@triton.jit
def note(fault, kind, row, number, drawable):
    """Note a fault unless another waits: ``number`` is the item that is wrong, or how many items are needed."""
    none = tl.zeros_like(row)
    if tl.atomic_cas(fault, none, none + kind) == 0:
        tl.store(fault + 1, row)
        tl.store(fault + 2, number)
        tl.store(fault + 3, drawable)


@triton.jit
def _note_index(fault, wrong, number):
    row = tl.program_id(0).to(tl.int64)
    if tl.load(wrong + row) != 0:
        note(fault, INDEX, row, tl.load(number + row), row * 0)


def note_index(index: Tensor, wrong: Tensor) -> None:
    """Note the first number in each row of ``index [B, N]`` that is ``wrong``."""
    if not index.numel():
        return
    number = index.gather(1, wrong.byte().argmax(1, keepdim=True)).squeeze(1)
    _note_index[(len(index),)](notes(index.device), wrong.any(1).long(), number, enable_fp_fusion=False)


def check(device: torch.device | str) -> None:
    """Raise what was noted on ``device`` since the last check, and forget it; waits for the device."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if device not in _NOTES:
        return
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    noted = _NOTES[device].numpy()  # host memory: no op of torch copies it
    kind, row, number, drawable = noted.tolist()
    if kind == 0:
        return
    noted[:] = 0
    if kind == SHORT.value:
        raise RuntimeError(
            f"logits must have at least {number} items that may be drawn in every row; row {row} has {drawable}. "
            "Draw fewer, widen the mask, or pass on_short='pad'."
        )
    if kind == INDEX.value:
        raise RuntimeError(
            f"index must be -1 or an item that may be drawn, and -1 behind the items only; got {number} in row {row}"
        )
    if kind == COUNT.value:
        raise RuntimeError(f"counts must lie between 0 and num_samples; got {number} in row {row}")
    if kind == TABLE.value:
        raise RuntimeError(
            f"table must have known pixel types, the conversion's channels and aligned addresses; not so in row {row}"
        )
    raise RuntimeError(
        f"logits must be finite, or -inf where nothing may be drawn; got {'nan' if kind == NAN.value else 'inf'} in "
        f"row {row}, item {number}. Look for an overflow in the network that made them, or mask such items."
    )


def check_if_asked(device: torch.device) -> None:
    """:func:`check` on the CPU, where something has been noted by now, or where ``ZOOMKERN_CHECK=1`` asks for it."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return
    noted = device in _NOTES and _NOTES[device].numpy()[0] != 0
    if device.type == "cpu" or noted or os.environ.get("ZOOMKERN_CHECK") == "1":
        check(device)

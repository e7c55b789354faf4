"""Patches of images that are not in memory: their windows are brought there, then read as those of any image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoomkern.functional.draws import call
from zoomkern.images.staging import staged
from zoomkern.images.stored import StoredLevel
from zoomkern.ops import gathering
from zoomkern.typing import PIXEL_DTYPES


def gather_stored(
    images: Sequence[Tensor | StoredLevel],
    offsets: Tensor,
    conversion: Tensor,
    reading: gathering.Reading,
    out: Tensor | None,
    backend: str,
) -> Tensor:
    """``[B, N, C, Ph, Pw]`` patches; arguments as :func:`zoomkern.ops.gathering.gather_patches`.

    On a GPU it waits for the offsets, which the host needs. A compiled graph breaks here.
    """
    last = torch.channels_last if reading.channels_last else torch.contiguous_format
    batch, draws = offsets.shape[:2]
    shape = (batch * draws, conversion.shape[1], reading.height, reading.width)
    if out is None:
        flat = torch.empty(shape, dtype=PIXEL_DTYPES[reading.dtype], device=offsets.device, memory_format=last)
    else:
        flat = out.flatten(0, 1)
    inside = reading._replace(shift=False)  # windows were moved before they were read
    size = (reading.height, reading.width)
    for some in staged(images, offsets.cpu(), size, reading.step, reading.shift, offsets.device):
        part = flat[some.first : some.first + len(some.offsets)].unsqueeze(1)
        call(gathering.gather_patches, some.images, some.offsets, conversion, inside, part, backend)
    return flat.unflatten(0, (batch, draws)) if out is None else out

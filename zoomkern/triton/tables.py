"""Numbers that the host knows, in memory of the device: the descriptors of images, and the conversion of their pixels.

Kernels write them from their arguments. Nothing is copied from the host, so nobody waits, and a graph that captures the
launches writes the numbers anew at every replay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.typing import dtype_code


@triton.jit(do_not_specialize=["pitch", *(f"v{k}" for k in range(8))])
def _write(
    out,
    pitch: tl.int64,
    v0: tl.int64,
    v1: tl.int64,
    v2: tl.int64,
    v3: tl.int64,
    v4: tl.int64,
    v5: tl.int64,
    v6: tl.int64,
    v7: tl.int64,
):
    """Rows of eight values, the first of which grows by ``pitch`` from row to row."""
    row = tl.program_id(0).to(tl.int64)
    values = (v0 + row * pitch, v1, v2, v3, v4, v5, v6, v7)
    for k in tl.static_range(8):
        tl.store(out + row * 8 + k, values[k])


def _descriptor(image: Tensor) -> tuple[int, ...]:
    """A row of the table, for the last three dimensions."""
    return (image.data_ptr(), *image.shape[-3:], *image.stride()[-3:], dtype_code(image.dtype, "images"))


def describe(images: Sequence[Tensor], table: Tensor | None, rows: Tensor) -> Tensor:
    """The descriptor table ``[B, 8]`` of images that are given as one, as ``[B, C, H, W]``, or as B ``[C, H, W]``.

    It lies on the device of ``rows``, whose first dimension is B. A list costs a launch per image; an ``ImageBank`` has
    its table ready.
    """
    batch = rows.shape[0]
    if table is not None:
        if images or table.dtype != torch.int64 or table.shape != (batch, 8):
            given = f"{table.dtype} {tuple(table.shape)} and {len(images)} images"
            raise ValueError(f"table must be [{batch}, 8] int64, without images; got {given}.")
        return table.contiguous()
    one = len(images) == 1 and images[0].ndim == 4
    if (images[0].shape[0] if one else len(images)) != batch or not (one or all(i.ndim == 3 for i in images)):
        given = str([tuple(image.shape) for image in images])
        raise ValueError(f"images must be {batch} of shape [C, H, W], or one [{batch}, C, H, W]; got {given}.")
    for image in images:
        if image.device != rows.device:
            raise ValueError(f"images must be on {rows.device}, where the places are; got {image.device}.")
    out = torch.empty((batch, 8), dtype=torch.int64, device=rows.device)
    with torch.cuda.device_of(out):
        if one and batch:
            _write[(batch,)](out, images[0].stride(0) * images[0].element_size(), *_descriptor(images[0]))
        elif not one:
            for row, image in zip(out, images, strict=True):
                _write[(1,)](row, 0, *_descriptor(image))
    return out


def constants_on(device: torch.device, conversion: Tensor) -> Tensor:
    """The float64 conversion ``[3, C]`` in memory of the device, contiguous."""
    rows = conversion.to(torch.float64).contiguous()
    if rows.device == device:
        return rows
    values = rows.view(torch.int64).flatten().tolist()
    values += [0] * (-len(values) % 8)
    out = torch.empty(len(values), dtype=torch.int64, device=device)
    with torch.cuda.device_of(out):
        for first in range(0, len(values), 8):
            _write[(1,)](out[first:], 0, *values[first : first + 8])
    return out.view(torch.float64)

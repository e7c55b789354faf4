"""Draw places and read their patches: sampling, offsets and gathering in a row, without a word to the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.triton.gathering import COLUMNS, PADDED, read_patches, shift_inside
from zoomkern.triton.sampling import sample
from zoomkern.triton.tables import describe

CORNERS = tl.constexpr(1)
BLOCK = 128  # draws of a program


@triton.jit
def _floor_div(a, b):
    """For positive ``b``."""
    return tl.where(a >= 0, a, a - b + 1) // b


@triton.jit
def _cell_start(cell, cells, pixels, extent, ALIGN: tl.constexpr):
    """Where, along one axis, the patch of a cell starts: ``axis_offsets`` of the reference."""
    center = _floor_div((2 * cell + 1) * pixels - cells * extent, 2 * cells)
    if ALIGN != CORNERS:
        return center
    corners = _floor_div(cell * (pixels - 1), tl.maximum(cells - 1, 1)) - extent // 2
    return tl.where(cells == 1, center, corners)


@triton.jit(do_not_specialize=["count", "draws", "items", "rows", "columns", "height", "width", "step"])
def _place(
    offsets,
    index,
    table,
    locations,
    count: tl.int64,
    draws: tl.int64,
    items: tl.int64,
    rows: tl.int64,
    columns: tl.int64,
    height: tl.int64,
    width: tl.int64,
    step: tl.int64,
    LISTED: tl.constexpr,
    SHARED: tl.constexpr,
    ALIGN: tl.constexpr,
    SHIFT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Top-left corners of drawn items, which are cells of a grid or ``LISTED`` locations, ``SHARED`` by all images."""
    draw = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    wanted = draw < count
    item = tl.load(index + draw, wanted, other=-1)
    drawn = item >= 0
    image = draw // draws
    for axis in tl.static_range(2):
        pixels = tl.load(table + image * COLUMNS + 2 + axis, wanted, other=0)
        size = (width if axis else height).to(tl.int64)
        if LISTED:
            place = item if SHARED else item + image * items
            start = tl.load(locations + 2 * place + axis, drawn, other=0)
        else:
            across = tl.maximum(columns, 1).to(tl.int64)
            cell = item % across if axis else item // across
            cells = tl.maximum(columns if axis else rows, 1).to(tl.int64)
            start = _cell_start(cell, cells, pixels, size * step, ALIGN)
        start = tl.where(drawn, start, PADDED)
        if SHIFT:
            start = shift_inside(start, pixels, size, step)
        tl.store(offsets + 2 * draw + axis, start, wanted)


def place_offsets(
    index: Tensor,
    table: Tensor,
    locations: Tensor | None,
    rows: int,
    columns: int,
    align: int,
    height: int,
    width: int,
    step: int,
    shift: bool,
) -> Tensor:
    """``[B, N, 2]`` offsets of ``index [B, N]`` in the images of ``table``, cells or rows of ``locations``."""
    offsets = torch.empty((*index.shape, 2), dtype=torch.int64, device=index.device)
    if index.numel() == 0:
        return offsets
    with torch.cuda.device_of(index):
        _place[(triton.cdiv(index.numel(), BLOCK),)](
            offsets,
            index.contiguous(),
            table,
            offsets if locations is None else locations.contiguous(),
            index.numel(),
            index.shape[1],
            0 if locations is None else locations.shape[-2],
            rows,
            columns,
            height,
            width,
            step,
            LISTED=locations is not None,
            SHARED=locations is not None and locations.ndim == 2,
            ALIGN=align,
            SHIFT=shift,
            BLOCK=BLOCK,
        )
    return offsets


def _sample_patches(
    out: Tensor | None,
    images: Sequence[Tensor],
    table: Tensor | None,
    logits: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    counts: Tensor | None,
    locations: Tensor | None,
    conversion: Tensor,
    rows: int,
    columns: int,
    align: int,
    num_samples: int,
    sampler: int,
    estimator: int,
    pad: bool,
    *reading: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """patches, index, offsets, log_prob, weight and lse."""
    items = logits.shape[1]
    if locations is None and (min(rows, columns) < 0 or rows * columns != items):
        raise ValueError(f"logits must cover the grid; got {items} items for {rows} x {columns} cells.")
    if locations is not None and locations.shape not in ((items, 2), (logits.shape[0], items, 2)):
        raise ValueError(f"locations must be [L, 2] or [B, L, 2] for {items} items; got {tuple(locations.shape)}.")
    if locations is not None and locations.dtype != torch.int64:
        raise ValueError(f"locations must be int64; got {locations.dtype}. Convert them with .to(torch.int64).")
    height, width, step, shift, _, _ = reading
    described = describe(images, table, logits)
    index, log_prob, weight, lse = sample(logits, mask, seed, counts, num_samples, sampler, estimator, pad, columns)
    offsets = place_offsets(index, described, locations, rows, columns, align, height, width, step, shift)
    patches = read_patches(out, described, offsets, conversion, *reading)
    return patches, index, offsets, log_prob, weight, lse


def sample_patches(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The op of this name: patches, index, offsets, log_prob, weight, lse."""
    return _sample_patches(None, *arguments)


def sample_patches_out(out: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same, with the patches written to ``out``."""
    return _sample_patches(out, *arguments)[1:]

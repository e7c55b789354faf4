"""Read patches out of images and convert their pixels.

A patch is a set of lines: values that follow each other in the image's memory. Of an image whose channels are
interleaved a line is a row of the patch with all its channels, of any other it is a row of one channel. An element is a
value's place in its line; both layouts hold the same values, so a kernel needs no other difference.

Pixels are read where they lie, as 32-bit words: of narrower ones that follow each other a warp asks for lines of 128
bytes, and for those words alone that hold a wanted pixel. The memory of an image must hence be readable in whole words,
as every allocation is. What is added to is rounded first (``enable_fp_fusion=False``), so that all backends agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoomkern.triton import faults
from zoomkern.triton.tables import constants_on, describe
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES, TABLE_COLUMNS

UINT8, UINT16, FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (tl.constexpr(code) for code in range(len(PIXEL_DTYPES)))
COLUMNS = tl.constexpr(len(TABLE_COLUMNS))
PADDED = tl.constexpr(PADDED_OFFSET)
REQUEST = tl.constexpr(128)  # bytes of a memory request, and of its alignment

LINES, RUN = 16, 128  # of a tile
MOST_TILES = 65535  # programs along the second axis of a grid

SIZES = ["draws", "height", "width", "step"]


@triton.jit
def bytes_of(kind):
    """Of a pixel."""
    return tl.where(kind == UINT8, 1, tl.where(kind < FLOAT32, 2, tl.where(kind == FLOAT32, 4, 8)))


@triton.jit
def image_of(table, b, fault, CHANNELS: tl.constexpr):
    """Row ``b`` of the table; of other channels, an unknown type or an odd address it is noted, and has no rows."""
    row = table + b * COLUMNS
    data, kind = tl.load(row), tl.load(row + 7)
    known = (tl.load(row + 1) == CHANNELS) & (kind >= UINT8) & (kind <= FLOAT64) & (data % bytes_of(kind) == 0)
    if not known:
        faults.note(fault, faults.TABLE, b, b, b)
    rows = tl.where(known, tl.load(row + 2), 0)
    return data, rows, tl.load(row + 3), tl.load(row + 4), tl.load(row + 5), tl.load(row + 6), kind


@triton.jit
def shift_inside(offset, pixels, size, step):
    """Move a window inside the image; a larger window covers all of it."""
    room = pixels - ((size - 1) * step + 1)
    moved = tl.minimum(tl.maximum(offset, tl.minimum(room, 0)), tl.maximum(room, 0))
    return tl.where(offset == PADDED, offset, moved)


@triton.jit
def _start(offset, pixels, size, step, SHIFT: tl.constexpr):
    """Where a window starts; one that lies outside is brought so near that its addresses do not overflow."""
    if SHIFT:
        offset = shift_inside(offset, pixels, size, step)
    return tl.minimum(tl.maximum(offset, -size * step), pixels)


@triton.jit
def _stored(channel, i, j, height, width, CHANNELS: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Where a value lies in a patch in the layout of memory."""
    if CHANNELS_LAST:
        return (i * width + j) * CHANNELS + channel
    return (channel * height + i) * width + j


@triton.jit
def _words(base, begin, end, BYTES: tl.constexpr, RUN: tl.constexpr):
    """``[LINES, RUN]`` bits of the values from ``base [LINES, 1]`` on: the words that hold a byte of [begin, end)."""
    at = (
        base.to(tl.pointer_type(tl.int32)) + tl.arange(0, RUN * BYTES // 4)[None, :]
    )  # a pointer, for neighbouring lanes
    word = at.to(tl.int64)
    wanted = (begin < end) & (word + 4 > begin) & (word < end)
    words = tl.load(at, wanted, other=0)
    parts = words[:, :, None] >> (tl.arange(0, 4 // BYTES) * (8 * BYTES))[None, None, :]
    return tl.reshape(parts, (base.shape[0], RUN))


@triton.jit
def _pixel(bits, kind):
    """float32 of a pixel that lies in the low bits of a word."""
    low = bits & 0xFFFF
    integer = tl.where(kind == UINT8, bits & 0xFF, low).to(tl.float32)
    half = low.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    brain = (bits << 16).to(tl.float32, bitcast=True)
    wide = tl.where(kind == BFLOAT16, brain, bits.to(tl.float32, bitcast=True))
    return tl.where(kind <= UINT16, integer, tl.where(kind == FLOAT16, half, wide))


@triton.jit
def _narrow(value, dtype: tl.constexpr):
    """Round to nearest even; to bfloat16 by integers, which the interpreter's own conversion truncates."""
    if dtype == tl.bfloat16:
        bits = value.to(tl.float32).to(tl.uint32, bitcast=True)
        rounded = tl.where(value == value, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, 0x7FC0)
        return rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    if dtype == tl.float16:
        return value.to(tl.float32).to(tl.float16)
    return value.to(dtype)


@triton.jit
def _convert(out, place, pixel, covered, channel, wanted, conversion, CHANNELS: tl.constexpr):
    """Store ``pixel * scale + shift``, in the arithmetic of the pixel's type."""
    row = conversion + channel
    scale = tl.load(row, wanted, other=0).to(pixel.dtype)
    shift = tl.load(row + CHANNELS, wanted, other=0).to(pixel.dtype)
    fill = tl.load(row + 2 * CHANNELS, wanted, other=0).to(pixel.dtype)
    value = tl.where(covered, pixel, fill) * scale + shift
    tl.store(out + place, _narrow(value, out.dtype.element_ty), wanted)


@triton.jit(do_not_specialize=SIZES)
def _gather(
    out,
    table,
    offsets,
    conversion,
    fault,
    draws: tl.int64,
    height: tl.int64,
    width: tl.int64,
    step: tl.int64,
    CHANNELS: tl.constexpr,
    SHIFT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    LINES: tl.constexpr,
    RUN: tl.constexpr,
):
    patch = tl.program_id(0).to(tl.int64)
    height, width, step = height.to(tl.int64), width.to(tl.int64), step.to(tl.int64)
    image = image_of(table, patch // draws, fault, CHANNELS)
    data, rows, columns, stride_c, stride_h, stride_w, kind = image
    y = _start(tl.load(offsets + 2 * patch), rows, height, step, SHIFT)
    x = _start(tl.load(offsets + 2 * patch + 1), columns, width, step, SHIFT)
    out += patch * height * width * CHANNELS

    size = bytes_of(kind)
    interleaved = (stride_c == 1) & (stride_w != 1)
    together = tl.where(interleaved, CHANNELS, 1)  # values of a line in one column
    lines, span = height * (CHANNELS // together), width * together
    packed = (step == 1) & (stride_w == together) & (kind != FLOAT64)
    chunks = (span + tl.where(packed, REQUEST // size - 1, 0) + RUN - 1) // RUN
    for tile in range(tl.program_id(1).to(tl.int64), (lines + LINES - 1) // LINES * chunks, tl.num_programs(1)):
        line, first = tile // chunks * LINES + tl.arange(0, LINES)[:, None], tile % chunks * RUN
        i, channel = tl.where(interleaved, line, line % height), tl.where(interleaved, 0, line // height)
        row = y + i * step
        start = data + (channel * stride_c + row * stride_h + x * stride_w) * size
        lead = tl.where(packed, (start & (REQUEST - 1)) // size, 0)  # values of a line's first request that precede it
        element = (first - lead).to(tl.int32) + tl.arange(0, RUN)[None, :]
        channel = tl.where(interleaved, element % CHANNELS, channel.to(tl.int32))
        j = tl.where(interleaved, element // CHANNELS, element)
        column = x + j * step
        wanted = (line < lines) & (element >= 0) & (element < span)
        covered = wanted & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        address = data + (channel * stride_c + row * stride_h + column * stride_w) * size
        place = _stored(channel, i, j, height, width, CHANNELS, CHANNELS_LAST)
        if kind == FLOAT64:
            pixel = tl.load(address.to(tl.pointer_type(tl.float64)), covered, other=0)
            _convert(out, place, pixel, covered, channel, wanted, conversion, CHANNELS)
        else:
            if packed:
                base, inside = start + (first - lead) * size, (line < lines) & (row >= 0) & (row < rows)
                begin = start + tl.maximum(-x, 0) * together * size
                end = tl.where(inside, start + tl.minimum(columns - x, width) * together * size, begin)
                if kind == UINT8:
                    bits = _words(base, begin, end, 1, RUN)
                elif kind < FLOAT32:
                    bits = _words(base, begin, end, 2, RUN)
                else:
                    bits = _words(base, begin, end, 4, RUN)
            else:
                word = tl.load((address & -4).to(tl.pointer_type(tl.int32)), covered, other=0)
                bits = word >> ((address & 3) * 8).to(tl.int32)
            _convert(out, place, _pixel(bits, kind), covered, channel, wanted, conversion, CHANNELS)


@triton.jit
def _read_at(distance, size, step):
    """Which of a window's positions along one axis reads the pixel at a distance from its start; -1 if none."""
    read = (distance >= 0) & (distance < size * step) & (distance % step == 0)
    return tl.where(read, distance // step, -1)


@triton.jit
def _store_as(data, place, value, wanted, dtype: tl.constexpr):
    tl.store(data.to(tl.pointer_type(dtype)) + place, _narrow(value, dtype), wanted)


@triton.jit(do_not_specialize=SIZES)
def _gather_backward(
    grad,
    table,
    offsets,
    conversion,
    fault,
    draws: tl.int64,
    height: tl.int64,
    width: tl.int64,
    step: tl.int64,
    CHANNELS: tl.constexpr,
    SHIFT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    LINES: tl.constexpr,
    RUN: tl.constexpr,
):
    """The first patch that reads a pixel adds up, in order, what it and later ones pass back to it.

    ``table`` names the results; the kernel sees to the float64 ones if ``WIDE``, else to others.
    """
    REAL: tl.constexpr = tl.float64 if WIDE else tl.float32
    patch = tl.program_id(0).to(tl.int64)
    height, width, step = height.to(tl.int64), width.to(tl.int64), step.to(tl.int64)
    image = image_of(table, patch // draws, fault, CHANNELS)
    data, rows, columns, stride_c, stride_h, stride_w, kind = image
    if (kind >= FLOAT16) & ((kind == FLOAT64) == WIDE):
        first_patch = patch // draws * draws
        y = _start(tl.load(offsets + 2 * patch), rows, height, step, SHIFT)
        x = _start(tl.load(offsets + 2 * patch + 1), columns, width, step, SHIFT)
        lines, span = height, width * CHANNELS
        if not CHANNELS_LAST:
            lines, span = height * CHANNELS, width
        chunks = (span + RUN - 1) // RUN
        for tile in range(tl.program_id(1).to(tl.int64), (lines + LINES - 1) // LINES * chunks, tl.num_programs(1)):
            line = tile // chunks * LINES + tl.arange(0, LINES)[:, None]
            element = tile % chunks * RUN + tl.arange(0, RUN)[None, :]
            if CHANNELS_LAST:
                i, j, channel = line, element // CHANNELS, element % CHANNELS
            else:
                i, j, channel = line % height, element, line // height
            row, column = y + i * step, x + j * step
            owned = (line < lines) & (element < span)
            owned &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            scale = tl.load(conversion + channel, owned, other=0).to(REAL)
            total = tl.zeros((LINES, RUN), REAL)
            for n in range(first_patch, first_patch + draws):
                y_n = _start(tl.load(offsets + 2 * n), rows, height, step, SHIFT)
                x_n = _start(tl.load(offsets + 2 * n + 1), columns, width, step, SHIFT)
                if (tl.abs(y_n - y) < height * step) & (tl.abs(x_n - x) < width * step):
                    i_n, j_n = _read_at(row - y_n, height, step), _read_at(column - x_n, width, step)
                    if n < patch:
                        owned &= (i_n < 0) | (j_n < 0)
                    else:
                        passed = owned & (i_n >= 0) & (j_n >= 0)
                        place = _stored(channel, i_n, j_n, height, width, CHANNELS, CHANNELS_LAST)
                        value = tl.load(grad + n * height * width * CHANNELS + place, passed, other=0)
                        total = tl.where(passed, total + value.to(REAL) * scale, total)
            place = channel * stride_c + row * stride_h + column * stride_w
            if WIDE:
                _store_as(data, place, total, owned, tl.float64)
            elif kind == FLOAT16:
                _store_as(data, place, total, owned, tl.float16)
            elif kind == BFLOAT16:
                _store_as(data, place, total, owned, tl.bfloat16)
            else:
                _store_as(data, place, total, owned, tl.float32)


def _launch(
    kernel: Any,
    patches: Tensor,
    table: Tensor,
    offsets: Tensor,
    conversion: Tensor,
    height: int,
    width: int,
    step: int,
    shift: bool,
    channels_last: bool,
    **constants: Any,
) -> None:
    """Programs for the tiles of every patch; ``patches`` are in the layout of memory."""
    if patches.numel() == 0:
        return
    batch, draws, channels = *offsets.shape[:2], conversion.shape[1]
    tiles = triton.cdiv(height * width * channels, LINES * RUN)
    with torch.cuda.device_of(patches):
        kernel[(batch * draws, min(tiles, MOST_TILES))](
            patches,
            table,
            offsets.contiguous(),
            constants_on(offsets.device, conversion),
            faults.notes(offsets.device),
            draws,
            height,
            width,
            step,
            CHANNELS=channels,
            SHIFT=shift,
            CHANNELS_LAST=channels_last,
            LINES=LINES,
            RUN=RUN,
            enable_fp_fusion=False,
            **constants,
        )
    faults.check_if_asked(offsets.device)


def _check(patches: Tensor, offsets: Tensor, conversion: Tensor, height: int, width: int, step: int) -> None:
    """What the kernels take for granted, without which they would read or write where they must not."""
    if offsets.dtype != torch.int64 or offsets.ndim != 3 or offsets.shape[2] != 2:
        raise ValueError(f"offsets must be [B, N, 2] int64; got {offsets.dtype} {tuple(offsets.shape)}.")
    if conversion.ndim != 2 or conversion.shape[0] != 3:
        raise ValueError(f"conversion must be [3, C]; got {tuple(conversion.shape)}.")
    channels = conversion.shape[1]
    if min(height, width, step) < 1 or max(height, width * channels, height * step, width * step) >= 1 << 31:
        given = f"{height} x {width} pixels of {channels} channels, step {step}"
        raise ValueError(f"patches must span 1 to 2^31 - 1 pixels and hold as many values in a row; got {given}.")
    if (
        not patches.is_contiguous()
        or patches.numel() != offsets.shape[0] * offsets.shape[1] * channels * height * width
    ):
        given = f"{tuple(patches.shape)} of strides {patches.stride()}"
        raise ValueError(f"patches must be contiguous, of the size that offsets and patch size give; got {given}.")


def read_patches(
    out: Tensor | None,
    table: Tensor,
    offsets: Tensor,
    conversion: Tensor,
    height: int,
    width: int,
    step: int,
    shift: bool,
    dtype: int,
    channels_last: bool,
) -> Tensor:
    """Patches in the layout of memory, written to ``out`` if it is given."""
    if out is None:
        channels = conversion.shape[1]
        shape = (height, width, channels) if channels_last else (channels, height, width)
        out = torch.empty((*offsets.shape[:2], *shape), dtype=PIXEL_DTYPES[dtype], device=offsets.device)
    elif out.dtype != PIXEL_DTYPES[dtype]:
        raise ValueError(f"out must be {PIXEL_DTYPES[dtype]}; got {out.dtype}.")
    _check(out, offsets, conversion, height, width, step)
    _launch(_gather, out, table, offsets, conversion, height, width, step, shift, channels_last)
    return out


def gather_patches(
    images: Sequence[Tensor], table: Tensor | None, offsets: Tensor, conversion: Tensor, *reading: Any
) -> Tensor:
    """``[B, N, C, Ph, Pw]``, or ``[B, N, Ph, Pw, C]`` for channels_last; ``reading`` as :func:`read_patches` takes it.

    Nothing is copied between host and device, so it can be captured once its kernels are compiled, which the first
    call with the same settings does.
    """
    return read_patches(None, describe(images, table, offsets), offsets, conversion, *reading)


def gather_patches_out(
    out: Tensor, images: Sequence[Tensor], table: Tensor | None, offsets: Tensor, conversion: Tensor, *reading: Any
) -> None:
    """The same, into ``out``, which lies in the layout of memory."""
    read_patches(out, describe(images, table, offsets), offsets, conversion, *reading)


def gather_patches_backward(
    grad: Tensor,
    images: Sequence[Tensor],
    offsets: Tensor,
    conversion: Tensor,
    height: int,
    width: int,
    step: int,
    shift: bool,
    dtype: int,
    channels_last: bool,
) -> list[Tensor]:
    """A contiguous gradient per image, zeros for images of integers.

    Sums are float64 for a float64 image and float32 for any other. The cost is that of zeroing the gradients and of
    comparing each patch with the N - 1 others.
    """
    grad = grad.contiguous()
    _check(grad, offsets, conversion, height, width, step)
    grads = [torch.zeros_like(image, memory_format=torch.contiguous_format) for image in images]
    table = describe(grads, None, offsets)
    for wide in {g.dtype == torch.float64 for g in grads if g.is_floating_point()}:
        _launch(
            _gather_backward, grad, table, offsets, conversion, height, width, step, shift, channels_last, WIDE=wide
        )
    return grads

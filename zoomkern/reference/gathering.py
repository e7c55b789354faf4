"""Read patches out of images and convert their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoomkern.reference.offsets import shift_inside
from zoomkern.typing import PADDED_OFFSET


def gather_patches(
    images: Sequence[Tensor],
    offsets: Tensor,
    conversion: Tensor,
    patch_size: tuple[int, int],
    step: int,
    shift: bool,
    dtype: torch.dtype,
) -> Tensor:
    """``out[b, n, c, i, j] = pixel * scale[c] + shift[c]``, the pixel at ``images[b][c, y + i step, x + j step]``.

    Args:
        images: ``B`` tensors ``[C, H, W]`` of any sizes, strides and pixel types.
        offsets: ``[B, N, 2]`` int64, top-left ``(y, x)``.
        conversion: ``[3, C]`` float64 rows scale, shift and fill; fill stands for a pixel outside.
        patch_size: ``(h, w)`` in output pixels.
        step: every ``step``-th pixel is read.
        shift: move windows inside the image first.
        dtype: of the result. Arithmetic is float64 for a float64 image, float32 for any other.

    Returns:
        ``[B, N, C, Ph, Pw]``.
    """
    rows = [_gather(image, offsets[b], conversion, patch_size, step, shift, dtype) for b, image in enumerate(images)]
    if rows:
        return torch.stack(rows)
    return torch.empty((0, offsets.shape[1], conversion.shape[1], *patch_size), dtype=dtype, device=offsets.device)


def _gather(
    image: Tensor,
    offsets: Tensor,
    conversion: Tensor,
    size: tuple[int, int],
    step: int,
    shift: bool,
    dtype: torch.dtype,
) -> Tensor:
    """``[N, C, Ph, Pw]`` patches of one image."""
    if shift:
        pixels = offsets.new_tensor([image.shape[1:]])
        offsets = shift_inside(offsets[None], pixels, size, step, PADDED_OFFSET)[0]
    kind = torch.float64 if image.dtype == torch.float64 else torch.float32
    scale, add, fill = conversion.to(image.device, kind)[:, :, None, None]
    at, inside = [], []
    for axis in (0, 1):
        start = offsets[:, axis, None].clamp(PADDED_OFFSET, -PADDED_OFFSET)
        place = start + step * torch.arange(size[axis], device=offsets.device)  # [N, P]
        inside.append((place >= 0) & (place < image.shape[1 + axis]))
        at.append(place.clamp(0, max(image.shape[1 + axis] - 1, 0)))
    read = _pixels(image, at[0][:, :, None], at[1][:, None, :], kind).transpose(0, 1)
    covered = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]  # [N, 1, Ph, Pw]
    return (torch.where(covered, read, fill) * scale + add).to(dtype)


def _pixels(image: Tensor, y: Tensor, x: Tensor, kind: torch.dtype) -> Tensor:
    """``[C, N, Ph, Pw]`` pixels; torch cannot index uint16, so its bits travel as int16."""
    if image.dtype == torch.uint16:
        return (image.view(torch.int16)[:, y, x].to(torch.int32) & 0xFFFF).to(kind)
    return image[:, y, x].to(kind)

"""The tuples that rooms share, and the codes by which they name data types."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Pixel types in the order of their code in descriptor tables and op schemas.
PIXEL_DTYPES = (torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: Columns of a descriptor table; strides count elements, not bytes.
TABLE_COLUMNS = ("pointer", "channels", "height", "width", "stride_c", "stride_h", "stride_w", "dtype")


class Sample(NamedTuple):
    """Places drawn from an attention.

    Args:
        index: ``[B, N]`` int64, flat item indices; -1 marks a padded draw.
        log_prob: ``[B, N]`` log of the normalised attention, differentiable, always finite.
        weight: ``[B, N]`` constant weights with ``E[sum_i w_i f_i] = sum_i p_i f_i``; 0 for a padded draw.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    log_prob: Tensor
    weight: Tensor


class SampledPatches(NamedTuple):
    """A :class:`Sample` with the pixels that were read.

    Args:
        patches: ``[B, N, C, Ph, Pw]``.
        index: ``[B, N]`` int64.
        offsets: ``[B, N, 2]`` int64, top-left ``(y, x)`` of each patch; ``PADDED_OFFSET`` for a padded draw.
        log_prob: ``[B, N]``.
        weight: ``[B, N]``.
    """

    patches: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    offsets: Tensor
    log_prob: Tensor
    weight: Tensor

    @property
    def sample(self) -> Sample:
        """The draw without its pixels."""
        return Sample(self.index, self.log_prob, self.weight)


class ImageBatch(NamedTuple):
    """Images of any sizes, named by descriptors that live in one tensor.

    Args:
        table: ``[B, 8]`` int64, a row per image in the order of :data:`TABLE_COLUMNS`, on the device that reads.
        ids: ``[B]`` int64, each row's place in ``images``.
        images: every resident ``[C, H, W]`` tensor the table may point to; holding it keeps the memory alive.
    """

    table: Tensor
    ids: Tensor
    images: Sequence[Tensor]


#: Offset of a padded draw: farther out than any image reaches, so that every border mode fills the patch.
PADDED_OFFSET = -(1 << 62)


def dtype_code(dtype: torch.dtype, name: str) -> int:
    """The code of a pixel type; ``name`` is the argument that an error names."""
    if dtype not in PIXEL_DTYPES:
        known = ", ".join(str(d).removeprefix("torch.") for d in PIXEL_DTYPES)
        raise TypeError(f"{name} must be one of {known}; got {dtype}. Convert it with .to(torch.float32).")
    return PIXEL_DTYPES.index(dtype)

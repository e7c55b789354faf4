"""Draw places and read their patches: sampling, offsets and gathering in a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoomkern.reference.gathering import gather_patches
from zoomkern.reference.offsets import cell_offsets, shift_inside
from zoomkern.reference.sampling import sample
from zoomkern.typing import PADDED_OFFSET


def place_offsets(
    index: Tensor,
    sizes: Tensor,
    grid: tuple[int, int] | None,
    locations: Tensor | None,
    patch_size: tuple[int, int],
    step: int,
    align: str,
    shift: bool,
) -> Tensor:
    """``[B, N, 2]`` top-left corners of the drawn items, which are cells of a grid or rows of ``locations``."""
    if locations is not None:
        table = locations.expand(index.shape[0], -1, -1)
        if table.shape[1] == 0:
            return torch.full((*index.shape, 2), PADDED_OFFSET, dtype=torch.int64, device=index.device)
        picked = table.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, 2))
        offsets = torch.where((index < 0)[..., None], PADDED_OFFSET, picked)
    else:
        assert grid is not None
        offsets = cell_offsets(index, grid, sizes, patch_size, step, align, PADDED_OFFSET)
    return shift_inside(offsets, sizes, patch_size, step, PADDED_OFFSET) if shift else offsets


def sample_patches(
    images: Sequence[Tensor],
    logits: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    counts: Tensor | None,
    locations: Tensor | None,
    conversion: Tensor,
    grid: tuple[int, int] | None,
    num_samples: int,
    sampler: str,
    estimator: str,
    pad: bool,
    patch_size: tuple[int, int],
    step: int,
    align: str,
    shift: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """patches, index, offsets, log_prob, weight; see the rooms it is made of for the arguments."""
    width = grid[1] if grid is not None else 0
    index, log_prob, weight = sample(logits, mask, seed, counts, num_samples, sampler, estimator, pad, width)
    sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64, device=index.device).reshape(-1, 2)
    offsets = place_offsets(index, sizes, grid, locations, patch_size, step, align, shift)
    patches = gather_patches(images, offsets, conversion, patch_size, step, False, dtype)
    return patches, index, offsets, log_prob, weight

"""Where the patch of a grid cell starts: integers only, floor division throughout."""

from __future__ import annotations

import torch
from torch import Tensor

ALIGNMENTS = ("center", "corners")


def axis_offsets(cell: Tensor, cells: int, pixels: Tensor | int, extent: int, align: str) -> Tensor:
    """Start, along one axis, of the patch of a cell.

    ``center``: the middle of the patch is the middle of the pixels that the cell covers,
    ``floor(((2 cell + 1) pixels - cells extent) / (2 cells))``. ``corners``: the patch is centred on the paper's map
    ``floor(cell (pixels - 1) / (cells - 1))``, and on the middle of the image where there is one cell.

    Args:
        cell: int64, row or column of the cell.
        cells: number of cells along the axis.
        pixels: size of the image along the axis.
        extent: pixels that the patch spans, ``step * patch size``.
        align: one of :data:`ALIGNMENTS`.
    """
    cells = max(cells, 1)  # of a grid without cells every draw is padded
    if align == "center" or cells == 1:
        return ((2 * cell + 1) * pixels - cells * extent) // (2 * cells)
    return cell * (pixels - 1) // (cells - 1) - extent // 2


def cell_offsets(
    index: Tensor, grid: tuple[int, int], sizes: Tensor, patch_size: tuple[int, int], step: int, align: str, padded: int
) -> Tensor:
    """``[B, N, 2]`` offsets of the cells ``index [B, N]`` in images of ``sizes [B, 2]``; ``padded`` for -1."""
    columns = max(grid[1], 1)
    row, column = index // columns, index % columns
    height, width = sizes[:, :1], sizes[:, 1:]
    y = axis_offsets(row, grid[0], height, step * patch_size[0], align)
    x = axis_offsets(column, grid[1], width, step * patch_size[1], align)
    return torch.where((index < 0)[..., None], padded, torch.stack((y, x), dim=-1))


def shift_inside(offsets: Tensor, sizes: Tensor, patch_size: tuple[int, int], step: int, padded: int) -> Tensor:
    """Move windows inside images of ``sizes [B, 2]``; a window larger than the image covers all of it."""
    axes = []
    for axis, size in enumerate(patch_size):
        room = sizes[:, axis, None] - ((size - 1) * step + 1)  # beside the pixels from first to last read
        axes.append(torch.minimum(torch.maximum(offsets[..., axis], room.clamp(max=0)), room.clamp(min=0)))
    return torch.where(offsets == padded, offsets, torch.stack(axes, dim=-1))

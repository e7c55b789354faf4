"""How much of a cell or a window a mask covers, exactly: differences of an integral image in integers."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern import checks


def cell_share(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """The share of each grid cell that a mask covers.

    Both cover the whole image. A pixel of the mask that several cells divide counts for each with its part.

    Args:
        mask: bool ``[h, w]``, finer or coarser than the grid.
        grid: ``(Gh, Gw)``.

    Returns:
        float64 ``[Gh, Gw]`` from 0 to 1, the exact shares rounded.

    Memory:
        8 bytes per pixel of the mask, and about 100 per cell.

    Raises:
        ValueError: the mask is not ``[h, w]`` with at least one pixel.
        TypeError: it is not bool.
    """
    rows, columns = checks.pair("grid", grid)
    table = _integral(mask)
    y = torch.arange(rows + 1, device=mask.device)[:, None]
    x = torch.arange(columns + 1, device=mask.device)
    corners = _integral_at(table, y, x, (rows, columns))
    covered = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
    return covered.double() / mask.numel()


def cells_with(mask: Tensor, grid: tuple[int, int], minimum: float = 0.1) -> Tensor:
    """The grid cells of which a mask covers a minimum share: the ``mask`` of :func:`zoomkern.sample_patches`.

    Args:
        mask: bool ``[h, w]`` of the whole image, such as :func:`zoomkern.tissue_mask` gives.
        grid: ``(Gh, Gw)``, the shape of an image's logits.
        minimum: share from 0 to 1; with 0 every cell that the mask touches.

    Returns:
        bool ``[Gh, Gw]``, at least one True.

    Raises:
        ValueError: no cell is covered enough: nothing could be drawn.

    Example:
        >>> mask = torch.stack([cells_with(tissue, (32, 32)) for tissue in masks])  # [B, Gh, Gw]
        >>> drawn = zoomkern.sample_patches(images, logits, 10, 256, mask=mask)
    """
    return some_enough(cell_share(mask, grid), minimum, f"a cell of the grid {checks.pair('grid', grid)}")


def share_at(mask: Tensor, locations: Tensor, extent: int | tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """The share of each window that a mask covers; what hangs over the image's edge is not covered.

    Args:
        mask: bool ``[h, w]`` of the whole image, at any size.
        locations: int64 ``[..., 2]``, top-left ``(y, x)`` in pixels of the image.
        extent: ``(height, width)`` of the windows in pixels of the image, or one int.
        image_size: ``(H, W)``, of the level that ``locations`` count in.

    Returns:
        float64 ``[...]`` from 0 to 1, exact shares rounded.

    Memory:
        8 bytes per pixel of the mask, and about 100 per window.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: ``mask`` is not bool or ``locations`` not int64.
    """
    size = checks.pair("image_size", image_size)
    height, width = checks.pair("extent", extent)
    checks.tensor("locations", locations, "an int64 tensor [..., 2]")
    checks.dtype("locations", locations.dtype, (torch.int64,))
    if locations.ndim == 0 or locations.shape[-1] != 2:
        raise ValueError(f"locations must be [..., 2], a (y, x) per window; got {list(locations.shape)}.")
    table = _integral(mask)
    checks.same_device("locations", locations, mask.device, "mask")
    whole = height * width * mask.numel()
    if whole >= 1 << 63:
        raise ValueError(f"mask times extent must be below 2^63 pixels; got {whole}. Make the mask smaller.")
    top, left = locations[..., 0], locations[..., 1]
    low_y, high_y = top.clamp(0, size[0]), top.clamp(-height, size[0]).add(height).clamp(max=size[0])
    low_x, high_x = left.clamp(0, size[1]), left.clamp(-width, size[1]).add(width).clamp(max=size[1])
    covered = _integral_at(table, high_y, high_x, size) - _integral_at(table, low_y, high_x, size)
    covered -= _integral_at(table, high_y, low_x, size) - _integral_at(table, low_y, low_x, size)
    return covered.double() / whole


def enough(share: Tensor, minimum: float) -> Tensor:
    """Where a share is at least ``minimum``, and not 0."""
    if isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or not 0 <= minimum <= 1:
        raise ValueError(f"minimum must be a share from 0 to 1; got {minimum!r}. Try 0.1.")
    return (share >= minimum) & (share > 0)


def some_enough(share: Tensor, minimum: float, what: str) -> Tensor:
    """As :func:`enough`, which must be somewhere; ``what`` a share is of."""
    found = enough(share, minimum)
    if not found.any():
        most = float(share.max()) if share.numel() else 0.0
        raise ValueError(
            f"mask must cover {minimum:.3g} of {what} at least once; it covers {most:.3g} at most, so nothing could be "
            "drawn. Lower minimum=, look at the mask (a blank slide? True is where one may look), pass another, or "
            "leave the image out."
        )
    return found


def _integral(mask: Tensor) -> Tensor:
    """``[h + 1, w + 1]`` int64: how many pixels of the mask lie above and left of each corner."""
    checks.tensor("mask", mask, "a bool tensor [h, w]")
    checks.dtype("mask", mask.dtype, (torch.bool,))
    if mask.ndim != 2 or mask.numel() == 0:
        raise ValueError(f"mask must be [h, w] with at least one pixel; got {list(mask.shape)}. Pass one per image.")
    table = torch.zeros(mask.shape[0] + 1, mask.shape[1] + 1, dtype=torch.int64, device=mask.device)
    table[1:, 1:] = mask
    table[1:, 1:].cumsum_(0).cumsum_(1)
    return table


def _integral_at(table: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """``H W`` times the integral up to ``(y, x)`` of an image of ``size = (H, W)``, between corners interpolated.

    It may wrap modulo 2^64; differences of it are right all the same, as long as they fit themselves.
    """
    height, width = size
    above, part_y = y * (table.shape[0] - 1) // height, y * (table.shape[0] - 1) % height
    left, part_x = x * (table.shape[1] - 1) // width, x * (table.shape[1] - 1) % width
    below, right = (above + 1).clamp(max=table.shape[0] - 1), (left + 1).clamp(max=table.shape[1] - 1)
    upper = (width - part_x) * table[above, left] + part_x * table[above, right]
    lower = (width - part_x) * table[below, left] + part_x * table[below, right]
    return (height - part_y) * upper + part_y * lower

"""Attention taught by annotations: how much of each cell is covered by objects."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoomkern.losses import supervised_attention
from zoomkern.training.batches import Batch


def cell_shares(objects: Tensor, size: tuple[float, float], grid: tuple[int, int]) -> Tensor:
    """Share of every cell's area that boxes cover, overlaps counted twice; a point covers one pixel around it.

    Args:
        objects: ``[..., K, 4]`` xyxy in pixels.
        size: ``(H, W)`` in pixels, what the grid divides evenly.
        grid: ``(Gh, Gw)``.

    Returns:
        ``[..., Gh, Gw]`` float64.
    """
    low, high = objects.double().unflatten(-1, (2, 2)).unbind(-2)  # [..., K, 2], x before y
    point = (high == low).all(-1, keepdim=True)
    low, high = torch.where(point, low - 0.5, low), torch.where(point, high + 0.5, high)

    def overlap(axis: int, length: float, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, dtype=torch.float64, device=objects.device) * (length / cells)
        first = torch.maximum(low[..., axis, None], edges[:-1])
        last = torch.minimum(high[..., axis, None], edges[1:])
        return (last - first).clamp(min=0) * (cells / length)  # [..., K, cells]

    return torch.einsum("...kr,...kc->...rc", overlap(1, size[0], grid[0]), overlap(0, size[1], grid[1]))


def annotation_loss(batch: Batch, out: Any, model: Any) -> Tensor:
    """Cross-entropy of both attentions against where the annotated objects lie; 0 for images and tiles without one.

    Args:
        batch: with ``areas``.
        out: what the network returned; an ``attention``, and perhaps a ``tile_attention``.
        model: the network, for the size of its tiles.

    Source:
        Kong & Henao, CVPR 2022, train with pixel annotations on Camelyon16; the form of their loss is not given.
    """
    device = out.attention.device
    sizes = [(image.shape[-2], image.shape[-1]) for image in batch.images]
    grid = tuple(out.attention.shape[1:])
    places = [(areas.to(device, non_blocking=True), size) for areas, size in zip(batch.areas, sizes, strict=True)]
    first = torch.stack([cell_shares(areas, size, grid) for areas, size in places])
    loss = supervised_attention(out.attention, first)
    if not hasattr(out, "tile_attention"):
        return loss
    inner = tuple(out.tile_attention.shape[2:])
    second = []
    for (areas, size), small, corner in zip(places, batch.tile_view, out.tiles.offsets, strict=True):
        y, x = (corner[:, axis] * size[axis] // small.shape[axis - 2] for axis in (0, 1))
        start = torch.stack((x, y, x, y), 1)  # [T, 4]
        second.append(cell_shares(areas[None] - start[:, None], model.tile_size, inner))
    shares = torch.where((out.tiles.index >= 0)[..., None, None], torch.stack(second), 0.0)
    return loss + supervised_attention(out.tile_attention.flatten(0, 1), shares.flatten(0, 1))

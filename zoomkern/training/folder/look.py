"""What a network looked at in one image, as arrays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern.training.pictures import distinct, drawn

Arrays = dict[str, np.ndarray[Any, Any]]


def look_of(out: Any, model: Any, image_size: tuple[int, int], tile_view_size: tuple[int, int] | None) -> Arrays:
    """The arrays of ``looks/KEY.npz``, as docs/predict.md lists them; none where a network looks at everything.

    Args:
        out: what ``model`` returned of one image, on the host.
        model: the network.
        image_size: ``(H, W)`` of the image.
        tile_view_size: ``(H2, W2)`` of the image at the tiles' scale; None where there is no second stage.
    """
    look: dict[str, Tensor] = {}
    grid = getattr(out, "attention", None)
    if grid is not None:
        look["attention"] = grid[0].double().flatten().softmax(0).view_as(grid[0]).float()
    found = drawn(out)
    if found is not None:
        index, offsets, probability, weight = (part[0] for part in found)
        places, share = distinct(index, weight)
        step = model.reading.get("step", 1)
        look |= {
            "patch_index": index[places],
            "patch_offsets": offsets[places],
            "patch_size": step * torch.tensor(model.patch_size),
            "patch_probability": probability[places].double(),
            "patch_weight": share.double(),
        }
        if hasattr(out, "tiles") and tile_view_size is not None:
            cells = out.tile_attention.shape[2] * out.tile_attention.shape[3]
            look |= _tiles(out, model, index[places] // cells, image_size, tile_view_size)
    if not look:
        return {}
    return {"image_size": np.array(image_size), **{name: value.numpy() for name, value in look.items()}}


def _tiles(
    out: Any, model: Any, parents: Tensor, image_size: tuple[int, int], tile_view_size: tuple[int, int]
) -> dict[str, Tensor]:
    """The tiles, and in which of them each patch lies."""
    places, share = distinct(out.tiles.index[0], out.tiles.weight[0])
    inside = out.tile_attention[0][places]
    start = out.tiles.offsets[0][places] * torch.tensor(image_size)
    return {
        "tile_index": out.tiles.index[0][places],
        "tile_offsets": start.div(torch.tensor(tile_view_size), rounding_mode="floor"),
        "tile_size": torch.tensor(model.tile_size),
        "tile_probability": out.tiles.log_prob[0][places].double().exp(),
        "tile_weight": share.double(),
        "tile_attention": inside.double().flatten(1).softmax(1).view_as(inside).float(),
        "patch_tile": (parents[:, None] == out.tiles.index[0][places]).int().argmax(1),
    }


def look_bytes(look: Arrays) -> bytes:
    """An NPZ file, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **look)
    return buffer.getvalue()

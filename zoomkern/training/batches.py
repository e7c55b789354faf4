"""Batches: images where they lie, their views, and a seed for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Item(NamedTuple):
    """One image, ready to be looked at.

    Args:
        image: ``[C, H, W]`` full resolution, uint8 or a resident image.
        view: ``[C, Vh, Vw]`` low resolution in the image's type.
        tile_view: ``[C, H2, W2]`` the image at the tiles' scale; the image itself where no model asks for it.
        label: its class.
        index: its place in the set.
        seed: of its draws in this epoch.
        objects: ``[K, 4]`` float64 xyxy in pixels of ``image``.
        areas: the same, boxes that the objects fill.
    """

    image: Any
    view: Tensor
    tile_view: Any
    label: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    seed: int
    objects: Tensor
    areas: Tensor


class Batch(NamedTuple):
    """Several images; tensors travel to the networks' device, what is known on the host stays there.

    Args:
        images: ``B`` images.
        view: ``[B, C, Vh, Vw]``.
        tile_view: ``B`` images at the tiles' scale.
        labels: int64 ``[B]``.
        index: int64 ``[B]``, places in the set.
        seed: int64 ``[B]``, of the draws.
        classes: the labels once more, on the host: to choose by them waits for nothing.
        noise: seed of whatever else is random in the step, dropout say.
        objects: ``B`` tensors ``[K, 4]`` float64 xyxy.
        areas: the same of the areas.
    """

    images: list[Any]
    view: Tensor
    tile_view: list[Any]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    seed: Tensor
    classes: tuple[int, ...]
    noise: int
    objects: list[Tensor]
    areas: list[Tensor]


def collate(items: list[Item]) -> Batch:
    """Items to a batch; the images stay where they are.

    Raises:
        ValueError: views of different sizes, which no batch can hold.
    """
    sizes = {tuple(item.view.shape) for item in items}
    if len(sizes) != 1:
        raise ValueError(
            f"views of a batch must have one size; got {sorted(sizes)}. Give view_size=(h, w) instead of view_scale, "
            "or train with batch_size=1."
        )
    return Batch(
        images=[item.image for item in items],
        view=torch.stack([item.view for item in items]),
        tile_view=[item.tile_view for item in items],
        labels=torch.tensor([item.label for item in items]),
        index=torch.tensor([item.index for item in items]),
        seed=torch.tensor([item.seed for item in items]),
        classes=tuple(item.label for item in items),
        noise=items[0].seed,
        objects=[item.objects for item in items],
        areas=[item.areas for item in items],
    )


def chosen(batch: Batch, rows: list[int]) -> Batch:
    """The images ``rows`` of a batch, one or more; nothing waits for a GPU."""
    if len(rows) == len(batch.classes):
        return batch

    def take(part: Any) -> Any:
        if isinstance(part, Tensor):
            return torch.stack([part[i] for i in rows])  # an index on the GPU would have to get there
        return type(part)(part[i] for i in rows) if isinstance(part, (list, tuple)) else part

    return Batch(*(take(part) for part in batch))

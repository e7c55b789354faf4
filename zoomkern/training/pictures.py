"""Where a network looked, as a picture of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from zoomkern.functional import gather_patches
from zoomkern.images.pyramid import Pyramid
from zoomkern.images.scaling import scaled
from zoomkern.training.batches import Batch
from zoomkern.training.names import output_key
from zoomkern.visual import Tiles, overview_size, save_attention, save_zoom

#: Tiles and patches that a picture shows, those that count most first.
MOST_TILES, MOST_PATCHES = 8, 20


def save_look(path: Path, batch: Batch, row: int, out: Any, model: Any, title: str, subtitle: str) -> bool:
    """Write a PNG of image ``row`` of a batch: attention, tiles where there are two stages, and the patches.

    Without an attention over a grid there are patches alone, with what each counts. Places that were drawn more than
    once are shown once; of many, those with the largest weights.

    Args:
        path: file to write.
        batch: on the host.
        row: which of its images.
        out: what ``model`` returned of the batch, on the host.
        model: the network.
        title: first line.
        subtitle: second line.

    Returns:
        Whether there was anything to show: a dense network looks at everything.
    """
    found = drawn(out)
    if found is None:
        return False
    index, places, probability, weight = (part[row] for part in found)
    image, objects = as_read(batch.images[row], batch.objects[row], model)
    size = (image.shape[-2], image.shape[-1])
    every = distinct(index, weight)[0]
    kept = every[:MOST_PATCHES]
    offsets = places[kept]
    grid = out.attention[row] if hasattr(out, "attention") else None
    step, fill = model.reading.get("step", 1), model.reading.get("fill", 0)
    overview, light = visible(scaled(image, overview_size(size)))
    common = {
        "overview": overview,
        "attention": None if grid is None else grid.flatten().softmax(0).view_as(grid),
        "patches": pixels_at(image, offsets, model.patch_size, step, light, fill),
        "offsets": offsets,
        "probabilities": probability[kept],
        "image_size": size,
        "title": title,
        "subtitle": _counted(subtitle, len(kept), len(every), len(objects)),
        "objects": objects,
        "step": step,
    }
    if not hasattr(out, "tiles"):
        save_attention(path, **common)
        return True
    cells = out.tile_attention[row].shape[1] * out.tile_attention[row].shape[2]
    parents = index[kept] // cells
    wanted = torch.isin(out.tiles.index[row], parents)
    tiles = _heaviest(torch.where(wanted, out.tiles.index[row], -1), out.tiles.weight[row], MOST_TILES)
    shown = torch.isin(parents, out.tiles.index[row][tiles])
    small = getattr(batch.tile_view[row], "tensor", batch.tile_view[row])
    corners = out.tiles.offsets[row][tiles]
    inside = out.tile_attention[row][tiles]
    common |= {name: common[name][shown] for name in ("patches", "offsets", "probabilities")}
    common["subtitle"] = _counted(subtitle, int(shown.sum()), len(every), len(objects))
    save_zoom(
        path,
        **common,
        tiles=Tiles(
            (corners * torch.tensor(size)).div(torch.tensor(small.shape[-2:]), rounding_mode="floor"),
            model.tile_size,
            pixels_at(small, corners, model.view_size, 1, light, fill),
            inside.flatten(1).softmax(1).view_as(inside),
            out.tiles.log_prob[row][tiles].exp(),
            (parents[shown][:, None] == out.tiles.index[row][tiles]).int().argmax(1),
        ),
    )
    return True


def _counted(subtitle: str, shown: int, every: int, objects: int) -> str:
    """The line with what of the places is shown, if not all, and what the marks are."""
    parts = [f"{shown} of {every} places read are shown"] * (shown < every)
    return ", ".join([subtitle, *parts, *[f"{objects} annotated objects marked"] * (objects > 0)])


def as_read(image: Any, objects: Tensor, model: Any) -> tuple[Any, Tensor]:
    """An image and what lies in it as a network sees them that reads another ``level`` of pyramids than the finest.

    Args:
        image: a tensor, a page-locked image or a pyramid.
        objects: ``[K, 4]`` xyxy in pixels of the image.
        model: the network.

    Returns:
        A tensor or a pyramid that begins with that level, and the boxes in its pixels: those of the network's offsets.
    """
    level = model.reading.get("level", getattr(model, "level", None))
    if not level:
        return getattr(image, "tensor", image), objects
    small = Pyramid(image.levels[level:])
    return small, objects * torch.tensor([small.shape[2] / image.shape[2], small.shape[1] / image.shape[1]]).repeat(2)


def drawn(out: Any) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Index, offsets, probability and weight ``[B, N, ...]`` of a network's patches; None where it has none."""
    sampled = getattr(out, "sampled", None)
    if sampled is not None:
        return sampled.index, sampled.offsets, sampled.log_prob.double().exp(), sampled.weight
    if not hasattr(out, "offsets"):
        return None
    if hasattr(out, "indicators"):  # what each patch counts in the patches that the features saw
        share = out.indicators.mean(1)
        logits = out.attention.double().flatten(1).log_softmax(1)
        return out.index, out.offsets, logits.gather(1, out.index.clamp(min=0)).exp(), share
    return out.index, out.offsets, out.shares, out.shares


def distinct(index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Every drawn item once, the one with the largest weight in all first.

    Args:
        index: ``[N]``, -1 for padding.
        weight: ``[N]``.

    Returns:
        The places of their first occurrences in ``index``, and the sum of each one's weights.
    """
    items, inverse = index.unique(return_inverse=True)
    total = torch.zeros(len(items), dtype=weight.dtype).index_add_(0, inverse, weight)
    first = torch.full((len(items),), len(index)).scatter_reduce_(0, inverse, torch.arange(len(index)), "amin")
    first, total = first[items >= 0], total[items >= 0]
    order = total.argsort(descending=True, stable=True)
    return first[order], total[order]


def _heaviest(index: Tensor, weight: Tensor, most: int) -> Tensor:
    """The ``most`` places of :func:`distinct`."""
    return distinct(index, weight)[0][:most]


def visible(overview: Tensor) -> tuple[Tensor, float]:
    """An overview for the eye, and the light that shows patches of its image in the same way.

    Cameras fill 10 or 12 of 16 bits, which would be black. So of uint16 white is ``2^b - 1``, where ``b``, from 8 on,
    is the least number of bits that holds the overview; what is brighter in patches is white, too. All else stays.

    Returns:
        ``[C, h, w]``, uint16 as float64 in [0, 1], and a factor for patches whose pixels lie in [0, 1].
    """
    if overview.dtype != torch.uint16:
        return overview, 1.0
    white = (1 << max(int(overview.int().max()).bit_length(), 8)) - 1
    return overview.double() / white, 65535 / white


def pixels_at(
    image: Any, offsets: Tensor, size: tuple[int, int], step: int, light: float = 1.0, fill: Any = 0
) -> Tensor:
    """``[N, C, h, w]`` of an image or a pyramid, integers as numbers between 0 and 1, times ``light``."""
    means, deviations = [0.0] * image.shape[0], [1 / light] * image.shape[0]
    return gather_patches([image], offsets[None], size, step=step, fill=fill, mean=means, std=deviations)[0]


class Pictures(Callback):
    """Writes a picture of every predicted image, as :func:`save_look` draws it.

    Args:
        folder: where they go, named after the images.
        most: images to draw, the first ones.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most

    def on_predict_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        """Draw the images of a batch."""
        images = trainer.datamodule.sets["test"].images
        if drawn(outputs.output) is None:
            return
        outputs, batch = move_data_to_device((outputs, batch), "cpu")
        for row, index in enumerate(outputs.index.tolist()):
            if index not in trainer.datamodule.indices["test"][: self.most]:
                continue
            probability = outputs.probability[row]
            predicted = int(probability.argmax())
            title = f"true: {images.classes[batch.classes[row]]}    predicted: {images.classes[predicted]}"
            path = self.folder / f"{output_key(images.names[index])}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            subtitle = f"{images.names[index]}, probability {100 * float(probability[predicted]):.0f} %"
            save_look(path, batch, row, outputs.output, task.model, title, subtitle)

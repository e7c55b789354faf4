"""Where a network may look in an image: anywhere, at tissue, or inside of polygons that somebody drew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoomkern.images.places import cells_with, polygon_mask, tissue_mask
from zoomkern.images.places.geojson import MAP, PIXELS, SPACE, coordinate_space
from zoomkern.images.readers import Reader
from zoomkern.training.folder.images import Found
from zoomkern.training.names import output_key

NONE, TISSUE = "none", "tissue"


def outline_file(folder: Path, image: Found) -> Path:
    """The GeoJSON file of an image: ``KEY.geojson``, or its path below the folder with that ending.

    Raises:
        FileNotFoundError: there is neither.
    """
    name = image.name.lstrip("/")
    choices = [folder / f"{output_key(image.name)}.geojson"]
    if ".." not in Path(name).parts:
        choices += [folder / f"{name}.geojson", (folder / name).with_suffix(".geojson")]
    for path in choices:
        if path.is_file():
            return path
    tried = ", ".join(repr(str(path)) for path in dict.fromkeys(choices))
    raise FileNotFoundError(f"--mask names a folder without a file for {image.name!r}; tried {tried}. Draw it.")


def make_mask(kind: str, image: Found, overview: Tensor, reader: Reader) -> Tensor | None:
    """``[h, w]`` bool of the overview's size; None where the network may look anywhere.

    Args:
        kind: "none", "tissue", or a folder with a GeoJSON file per image.
        image: the image.
        overview: ``[C, h, w]``.
        reader: of its file.

    Raises:
        ValueError: there is no tissue, outlines do not fit the image, or do not say whether they are on its map.
        FileNotFoundError: there are no outlines.
    """
    if kind == NONE:
        return None
    if kind == TISSUE:
        mask = tissue_mask(overview)
        if not mask.any():
            raise ValueError("--mask tissue finds none in it. Look at the image; --mask none looks everywhere.")
        return mask
    width, height = reader.dimensions
    size = (overview.shape[1], overview.shape[2])
    outlines = outline_file(Path(kind), image)
    header = reader.header
    space = coordinate_space(outlines)
    if header.transform is None or space == PIXELS:
        return polygon_mask(outlines, (height, width), size)
    if space is None:
        raise ValueError(
            f"{str(outlines)!r} must say what its coordinates count, for {image.name!r} lies on a map; it names no "
            f'space. Add "{SPACE}": "{MAP}" to its outermost object where they are those of '
            f'{header.crs or "the map of the image"}, "{SPACE}": "{PIXELS}" where they are pixels.'
        )
    return polygon_mask(outlines, (height, width), size, transform=header.transform, crs=header.crs)


@contextmanager
def looking_at(model: Any, mask: Tensor | None) -> Iterator[None]:
    """The network's first attention is -inf, for a while, in cells of which the mask covers less than a tenth.

    Raises:
        ValueError: the network has no attention that a mask could hold for.
    """
    if mask is None:
        yield
        return
    attention = getattr(model, "attention", None)
    if not isinstance(attention, nn.Module):
        raise ValueError(f"--mask needs a network with an attention over a grid; got a {type(model).__name__}.")

    def keep(_: nn.Module, __: Any, logits: Tensor) -> Tensor:
        cells = cells_with(mask, (logits.shape[-2], logits.shape[-1])).to(logits.device)
        return torch.where(cells, logits, -torch.inf)

    handle = attention.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()

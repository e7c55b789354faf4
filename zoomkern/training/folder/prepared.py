"""What is read of an image before the network sees it; a thread does it while the network is busy with another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoomkern.images import Pyramid
from zoomkern.images.readers import Reader
from zoomkern.images.readers.opening import open_image
from zoomkern.images.readers.pictures import PictureReader
from zoomkern.images.scaling import scaled
from zoomkern.images.tiles import TileCache
from zoomkern.training.batches import Batch, Item, collate
from zoomkern.training.folder.images import Found
from zoomkern.training.folder.masks import make_mask
from zoomkern.training.folder.network import Looker, view_size
from zoomkern.training.folder.options import Options
from zoomkern.visual import overview_size


class Prepared(NamedTuple):
    """An image that a network can look at.

    Args:
        reader: of its file.
        pyramid: its levels, of which small ones are in memory.
        batch: of this image alone, on the host.
        overview: ``[C, h, w]`` for pictures and masks.
        mask: bool ``[h, w]`` of where to look; None for everywhere.
        tile_view_size: ``(H2, W2)`` at the tiles' scale; None where the network has no second stage.
    """

    reader: Reader
    pyramid: Pyramid
    batch: Batch
    overview: Tensor
    mask: Tensor | None
    tile_view_size: tuple[int, int] | None

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` in pixels."""
        return self.pyramid.shape[1], self.pyramid.shape[2]


def prepare(image: Found, looker: Looker, options: Options, cache: TileCache, seed: int) -> Prepared:
    """Open an image, and read its view and its overview.

    Args:
        image: the file.
        looker: the network.
        options: how to look.
        cache: of decoded tiles, which all images share.
        seed: of the image's draws.

    Memory:
        The view, the overview, 16 M pixels of a view of tiles, and up to 64 MiB of small levels. A PNG, JPEG, WebP or
        BMP is decoded as a whole.

    Raises:
        OSError: the file is missing or damaged.
        ValueError: it does not fit the network or the options.
    """
    reader = open_image(image.path, mpp=options.mpp, mpp_table=options.mpp_table)
    if isinstance(reader, PictureReader) and math.prod(reader.dimensions) > options.most_picture_pixels:
        width, height = reader.dimensions
        raise ValueError(
            f"a file that is decoded as a whole must have at most {options.most_picture_pixels} pixels; {image.name!r} "
            f"has {height} x {width}. Copy it with zoomkern convert first, or raise --max-picture-pixels."
        )
    if reader.properties.get("dicom.ImageType[3]") == "RESAMPLED":
        raise ValueError(
            f"the finest file of the series of {image.name!r} is missing or damaged. Fetch the series again."
        )
    pyramid = Pyramid.open(reader, cache=cache)
    size = (pyramid.shape[1], pyramid.shape[2])
    view = torch.zeros(pyramid.shape[0], 1, 1)
    if "view" in looker.task.model.inputs:
        view = scaled(pyramid, view_size(looker.views, size, options.most_view_pixels))
    two_stages = "tile_view" in looker.task.model.inputs
    tile_view = looker.views.tiles(pyramid) if two_stages else pyramid
    overview = scaled(pyramid, overview_size(size))
    mask = make_mask(options.mask, image, overview, reader)
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    batch = collate([Item(pyramid, view, tile_view, 0, 0, seed, nothing, nothing)])
    tile_size = (tile_view.shape[-2], tile_view.shape[-1]) if two_stages else None
    return Prepared(reader, pyramid, batch, overview, mask, tile_size)


def mpp_of(table: Path | None, images: list[Found]) -> dict[str, str]:
    """What a table says of each image, as it stands there, so that a changed line is seen without opening an image."""
    if table is None:
        return {}
    lines: dict[str, list[str]] = {}
    for line in table.read_text(encoding="utf-8-sig").splitlines():
        lines.setdefault(Path(line.rpartition(",")[0].strip('" ')).name, []).append(line)
    return {image.name: "\n".join(lines.get(image.path.name, ())) for image in images}

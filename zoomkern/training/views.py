"""Images with their views, which are made once per image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from tqdm import tqdm

from zoomkern.data.dataset import Example, ImageSet
from zoomkern.images import Pyramid
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.training.augmentation import Augmentation
from zoomkern.training.batches import Item
from zoomkern.training.order import Place, mixed

#: Pixels of a view of tiles that is kept in memory for an image that is not.
MOST_TILE_PIXELS = 1 << 24


class Views(NamedTuple):
    """How images are made small.

    Args:
        view_scale: scale of the first stage's view; or
        view_size: ``(h, w)`` of every view, which images of different sizes need to share a batch.
        tile_scale: scale of the second stage's tiles; None where there is no second stage.
    """

    view_scale: float | None = None
    view_size: tuple[int, int] | None = None
    tile_scale: float | None = None

    def make(self, image: Any) -> tuple[Tensor, Any]:
        """View and tile view of ``image``, a ``[C, H, W]`` tensor, a pinned image or a pyramid."""
        size = (image.shape[-2], image.shape[-1])
        view = scaled(image, self.view_size or scaled_size(size, self.view_scale or 1.0))
        return view, self.tiles(image)

    def tiles(self, image: Any) -> Any:
        """The image at the tiles' scale: a copy, or of a large one that is stored a level, or what is made of one."""
        if self.tile_scale is None or math.isclose(self.tile_scale, 1.0):
            return image
        size = scaled_size((image.shape[-2], image.shape[-1]), self.tile_scale)
        if isinstance(image, Pyramid) and math.prod(size) > MOST_TILE_PIXELS:
            return image.at_scale(self.tile_scale)
        return scaled(image, size)


class ViewedImages(Dataset[Item]):
    """Images of a set with their views; asked for by ``(index, epoch)``.

    Where images are resident, the processes of a ``DataLoader`` share those that were loaded before they started, and
    send the name of an image instead of its pixels: the training process finds its own.

    Args:
        images: the set.
        views: how to make the views.
        seed: of the draws: an image's seed is a function of this, of the epoch and of its index.
        resident: keep every image and its views from the first time on; worker processes keep none of their own.

    Memory:
        Where ``resident``, all images that were asked for.
    """

    def __init__(self, images: ImageSet, views: Views, seed: int, resident: bool = True) -> None:
        self.images = images
        self.views = views
        self.seed = seed
        self._kept: dict[int, Item] | None = {} if resident else None
        self._kind: tuple[int, torch.dtype, str] | None = None
        self._number = next(_NUMBERS)
        _SETS[self._number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _SETS.setdefault(self._number, self)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: Place) -> Item:
        item = self.item(place)
        if get_worker_info() is None or not self._kept or item.index not in self._kept:
            return item
        image, tile_view = (_Resident(self._number, item.index, part) for part in ("image", "tile_view"))
        return item._replace(image=image, tile_view=tile_view)

    def item(self, place: Place) -> Item:
        """The image with its views, and the seed of its draws in that epoch."""
        index, epoch = place
        return self.plain(index)._replace(seed=mixed(self.seed, epoch, index))

    def plain(self, index: int) -> Item:
        """The image with its views, seed 0.

        Raises:
            ValueError: it has other channels, or pixels of another type, than the first one that was asked for.
        """
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        example = self.images[index]
        self._require_kind(example)
        view, tile_view = self.views.make(example.image)
        item = Item(example.image, view, tile_view, example.label, index, 0, example.objects, self.images.areas(index))
        if self._kept is not None and get_worker_info() is None:
            self._kept[index] = item
        return item

    def _require_kind(self, example: Example) -> None:
        """What one batch could not hold, by the image's name."""
        kind = (example.image.shape[0], example.image.dtype)
        self._kind = self._kind or (*kind, example.name)
        if kind != self._kind[:2]:
            raise ValueError(
                f"images of a set must have the same channels and type; {example.name!r} has {kind[0]} of {kind[1]}, "
                f"{self._kind[2]!r} has {self._kind[0]} of {self._kind[1]}. Convert some of them."
            )

    def load(self, indices: Sequence[int], progress: bool = False) -> None:
        """Make images resident; nothing happens where they are not to be.

        Args:
            indices: of the images.
            progress: show a bar.
        """
        if self._kept is None:
            return
        missing = [index for index in indices if index not in self._kept]
        for index in tqdm(missing, "loading", unit="image", leave=False, disable=not (progress and missing)):
            self.plain(index)


#: Sets of this process by a number, which their copies in worker processes have, too.
_SETS: WeakValueDictionary[int, ViewedImages] = WeakValueDictionary()
_NUMBERS = itertools.count()


class _Resident:
    """Names a resident image; what arrives in the training process is the image itself."""

    def __init__(self, number: int, index: int, part: str) -> None:
        self._where = (number, index, part)

    def __reduce__(self) -> tuple[Any, tuple[int, int, str]]:
        return _resident, self._where


def _resident(number: int, index: int, part: str) -> Any:
    return getattr(_SETS[number].plain(index), part)


class AugmentedImages(Dataset[Item]):
    """The same images, each changed as its seed says."""

    def __init__(self, images: ViewedImages, augmentation: Augmentation) -> None:
        self.images = images
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: Place) -> Item:
        return self.augmentation(self.images.item(place))

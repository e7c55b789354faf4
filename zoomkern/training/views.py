"""Images with their views, which are made once per image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from tqdm import tqdm

from zoomkern.data.dataset import Example, ImageSet
from zoomkern.images import PinnedImage, Pyramid
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.training.augmentation import Augmentation
from zoomkern.training.batches import Item
from zoomkern.training.order import Place, mixed

#: What is kept in memory of each image: all of it, nothing, or its views.
Resident = bool | Literal["views"]

#: Pixels of a view of tiles that is kept in memory for an image that is not.
MOST_TILE_PIXELS = 1 << 24

#: Bytes of an image that is worth page-locking: less is copied to a GPU in no time.
LEAST_LOCKED = 1 << 20


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

    The processes of a ``DataLoader`` share what was loaded before they started, and send its name instead of its
    pixels: the training process finds its own.

    Args:
        images: the set.
        views: how to make the views.
        seed: of the draws: an image's seed is a function of this, of the epoch and of its index.
        resident: True keeps every image and its views from the first time on, "views" the views alone, False nothing.
            Worker processes keep nothing of their own.
        page_locked: what is kept of a MiB or more is a :class:`~zoomkern.PinnedImage`, of which a GPU reads patches;
            other tensors travel there whole. A process that is forked from this one would copy what a GPU has read.

    Memory:
        All images that were asked for, or their views.

    Raises:
        ValueError: another value of ``resident``.
    """

    def __init__(
        self, images: ImageSet, views: Views, seed: int, resident: Resident = True, page_locked: bool = False
    ) -> None:
        if resident not in (True, False, "views"):
            raise ValueError(f"resident must be true, false or 'views'; got {resident!r}. Correct it.")
        self.images = images
        self.views = views
        self.seed = seed
        self._whole = resident != "views"
        self._page_locked = page_locked
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
        return self.sent(self.item(place))

    def item(self, place: Place) -> Item:
        """The image with its views, and the seed of its draws in that epoch."""
        index, epoch = place
        return self.plain(index)._replace(seed=mixed(self.seed, epoch, index))

    def sent(self, item: Item) -> Item:
        """An item as a worker process sends it: names of pixels that are resident, and nothing of what it keeps.

        What is sent moves to shared memory, where each tensor holds a file open for as long as it lives.
        """
        kept = self._kept.get(item.index) if self._kept else None
        if get_worker_info() is None or kept is None:
            return item
        names = [name for name in ("image", "tile_view") if getattr(kept, name) is getattr(item, name)]
        parts: dict[str, Any] = {name: _Kept(self._number, item.index, name) for name in names}
        return item._replace(objects=item.objects.clone(), areas=item.areas.clone(), **parts)

    def plain(self, index: int) -> Item:
        """The image with its views, seed 0.

        Raises:
            ValueError: it has other channels, or pixels of another type, than the first one that was asked for.
        """
        if self._kept is not None and index in self._kept:
            return self._completed(self._kept[index])
        example = self.images[index]
        self._require_kind(example)
        view, tile_view = self.views.make(example.image)
        item = Item(example.image, view, tile_view, example.label, index, 0, example.objects, self.images.areas(index))
        if self._kept is not None and get_worker_info() is None:
            kept = item if self._whole else _small(item)
            self._kept[index] = _page_locked(kept) if self._page_locked else kept
            return self._kept[index] if self._whole else item
        return item

    def _completed(self, item: Item) -> Item:
        """What is kept of an image, and what is not, read again."""
        if item.image is None:
            item = item._replace(image=self.images.image(item.index))
        if item.tile_view is None:
            item = item._replace(tile_view=self.views.tiles(item.image))
        return item

    def kept(self, index: int, part: str) -> Any:
        """``image`` or ``tile_view`` of an image of which it is kept."""
        assert self._kept is not None
        return getattr(self._kept[index], part)

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
        """Make images, or their views, resident; nothing happens where they are not to be.

        Args:
            indices: of the images.
            progress: show a bar.
        """
        if self._kept is None:
            return
        missing = [index for index in indices if index not in self._kept]
        for index in tqdm(missing, "loading", unit="image", leave=False, disable=not (progress and missing)):
            self.plain(index)


def _small(item: Item) -> Item:
    """The item without its image, and without a tile view that is the image or a level of its file."""
    tiles = item.tile_view if isinstance(item.tile_view, Tensor) and item.tile_view is not item.image else None
    return item._replace(image=None, tile_view=tiles)


def _page_locked(item: Item) -> Item:
    """The item, large tensors of pixels in memory that a GPU reads itself."""

    def moved(pixels: Any) -> Any:
        return PinnedImage(pixels) if isinstance(pixels, Tensor) and pixels.nbytes >= LEAST_LOCKED else pixels

    image = moved(item.image)
    return item._replace(image=image, tile_view=image if item.tile_view is item.image else moved(item.tile_view))


#: Sets of this process by a number, which their copies in worker processes have, too.
_SETS: WeakValueDictionary[int, ViewedImages] = WeakValueDictionary()
_NUMBERS = itertools.count()


class _Kept:
    """Names what is resident of an image; what arrives in the training process is the pixels themselves."""

    def __init__(self, number: int, index: int, part: str) -> None:
        self._where = (number, index, part)

    def __reduce__(self) -> tuple[Any, tuple[int, int, str]]:
        return _resident, self._where


def _resident(number: int, index: int, part: str) -> Any:
    return _SETS[number].kept(index, part)


class AugmentedImages(Dataset[Item]):
    """The same images, each changed as its seed says."""

    def __init__(self, images: ViewedImages, augmentation: Augmentation) -> None:
        self.images = images
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: Place) -> Item:
        return self.images.sent(self.augmentation(self.images.item(place)))

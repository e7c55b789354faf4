"""What every image set of this package offers: images with labels, groups and, where known, the objects in them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Example(NamedTuple):
    """One image of a set.

    Args:
        image: ``[C, H, W]`` uint8, or a :class:`~zoomkern.images.PinnedImage` or :class:`~zoomkern.images.Pyramid`.
        label: the class, an index into :attr:`ImageSet.classes`.
        name: what the set calls the image, unique in it.
        objects: ``[K, 4]`` float64 xyxy in pixels of ``image``, what makes the image its class; a point is a box of no
            area. Empty where there is nothing, or where the set does not tell.
    """

    image: Any
    label: int
    name: str
    objects: Tensor


class ImageSet(Dataset[Example]):
    """Images of which everything but the pixels is known beforehand.

    Labels and groups are at hand without reading an image, so that folds can be made of them.

    Args:
        classes: name of every class.
        names: name of every image, unique.
        labels: class of every image.
        groups: what must not be split between training and test (a patient, a drive), for every image; None puts each
            image into a group of its own.

    Attributes:
        classes: as given, and so ``names``, ``labels`` and ``groups``.
    """

    def __init__(
        self, classes: list[str], names: list[str], labels: list[int], groups: list[str] | None = None
    ) -> None:
        self.classes = list(classes)
        self.names = list(names)
        self.labels = list(labels)
        self.groups = list(names) if groups is None else list(groups)
        lengths = {len(self.names), len(self.labels), len(self.groups)}
        if len(lengths) != 1:
            given = f"{len(self.names)}, {len(self.labels)} and {len(self.groups)}"
            raise ValueError(f"names, labels and groups must be equally many; got {given}.")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"names must be unique; {twice!r} occurs {self.names.count(twice)} times.")
        outside = [label for label in self.labels if not 0 <= label < len(self.classes)]
        if outside:
            raise ValueError(f"labels must be classes below {len(self.classes)}; got {outside[0]}.")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie below {len(self)}; got {index}.")
        index %= len(self)
        return Example(self.image(index), self.labels[index], self.names[index], self.objects(index))

    @abstractmethod
    def image(self, index: int) -> Any:
        """The image, as :class:`Example` holds it.

        Raises:
            OSError: the file is missing, truncated or no image; the message names it.
        """

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` in pixels, without decoding the image."""

    def source(self, index: int) -> str:
        """The file that holds this image and no other; "" where there is none."""
        return ""

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64 xyxy, as :class:`Example` holds them."""
        return torch.zeros(0, 4, dtype=torch.float64)

    def areas(self, index: int) -> Tensor:
        """``[K, 4]`` float64 xyxy: boxes that the objects fill, by which attention is taught; here the objects."""
        return self.objects(index)

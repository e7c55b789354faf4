"""Many resident images, named by descriptors in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.pinned import PinnedImage, pixels_on
from zoomkern.typing import TABLE_COLUMNS, ImageBatch, dtype_code

_SIZE_COLUMNS = slice(TABLE_COLUMNS.index("height"), TABLE_COLUMNS.index("width") + 1)


class ImageBank:
    """Images of any size and pixel type whose descriptors stand in one tensor.

    ``bank[ids]`` chooses a batch by indexing that tensor, so that a captured graph or a compiled step sees other images
    at every replay.

    Args:
        images: ``[C, H, W]`` tensors or :class:`PinnedImage` of one ``C`` on one device; kept, not copied.
        device: Where the bank is read; None for the first image's, which of a PinnedImage is the host. On a CUDA device
            a PinnedImage gives its view there.

    Attributes:
        images: The tensors, of a PinnedImage those that ``device`` sees.
        table: ``[n, 8]`` int64 on the images' device, a row per image in the order of
            :data:`zoomkern.typing.TABLE_COLUMNS`; strides count elements.

    Memory:
        64 bytes per image besides the images themselves.

    Raises:
        TypeError: An image is neither a tensor nor a PinnedImage, or of a type that images do not have.
        ValueError: An image has other dimensions, channels or another device than the first, or requires a gradient.
        RuntimeError: A PinnedImage has no view on ``device``.

    Example:
        >>> bank = ImageBank([torch.zeros(3, 8, 9), torch.zeros(3, 5, 5, dtype=torch.uint8)])
        >>> bank.sizes.tolist(), bank[torch.tensor([1, 1])].ids.tolist()
        ([[8, 9], [5, 5]], [1, 1])
    """

    def __init__(self, images: Sequence[Tensor | PinnedImage], device: torch.device | str | None = None) -> None:
        if isinstance(images, (Tensor, PinnedImage)) or not isinstance(images, Sequence):
            raise TypeError(f"images must be a list of images; got {type(images).__name__}. Wrap it in a list.")
        if not images:
            raise ValueError("images must hold at least one image; got an empty list. Add a [C, H, W] tensor.")
        self._members = tuple(images)
        pinned = {i: image for i, image in enumerate(images) if isinstance(image, PinnedImage)}
        self._mapped = {i: image for i, image in pinned.items() if image._memory.mapped}
        self._device = None if device is None else torch.device(device)
        self.images = self._seen()
        first = self.images[0]
        if self._device is not None and not _is_on(first, self._device):
            raise ValueError(
                f"images[0] must be on {self._device} as the bank; got {first.device}. Make it a PinnedImage, which a "
                f"GPU reads where it is, or move it with .to({str(self._device)!r})."
            )
        for i, image in enumerate(self.images):
            if image.shape[0] != first.shape[0] or image.device != first.device:
                raise ValueError(
                    f"images[{i}] must have {first.shape[0]} channels on {first.device} as images[0]; "
                    f"got {image.shape[0]} on {image.device}. Make the images equal in both."
                )
        self.table = self._describe()

    def _seen(self) -> tuple[Tensor, ...]:
        """The members as the bank's device sees them now."""
        return tuple(_member(image, self._device, f"images[{i}]") for i, image in enumerate(self._members))

    def _describe(self) -> Tensor:
        rows = [descriptor(image, f"images[{i}]") for i, image in enumerate(self.images)]
        return torch.tensor(rows, dtype=torch.int64, device=self.images[0].device)

    @property
    def sizes(self) -> Tensor:
        """``[n, 2]`` int64 ``(height, width)`` of each image, in pixels."""
        return self.table[:, _SIZE_COLUMNS]

    @property
    def channels(self) -> int:
        """``C`` of every image."""
        return self.images[0].shape[0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, ids: int | slice | Sequence[int] | Tensor) -> ImageBatch:
        """The batch of some images.

        Args:
            ids: An int (a batch of one), a slice, a list of ints, or an integer tensor ``[B]``; each from 0 to n - 1.

        Raises:
            TypeError: ``ids`` is none of these.
            ValueError: ``ids`` has more than one dimension, or the file behind a mapped image became shorter.
            IndexError: An id is out of range. Of ids that lie on a GPU nobody waits to see them: torch's own lookup
                stops the kernel there, after which the process cannot use that GPU any more.
        """
        index = self._as_index(ids)
        if not torch.compiler.is_compiling() and index.device.type == "cpu" and self._mapped:
            for i in self._mapped.keys() & set(index.tolist()):
                self._mapped[i].check_file()  # the table alone would lead behind the end of a file
        return ImageBatch(self.table.index_select(0, index), index, self.images)

    def __reduce__(self) -> tuple[type[ImageBank], tuple[list[Tensor | PinnedImage], torch.device | None]]:
        return ImageBank, (list(self._members), self._device)  # a copy's images lie elsewhere

    def __repr__(self) -> str:
        nbytes = sum(image.nbytes for image in self.images)
        return f"ImageBank({len(self)} images, channels={self.channels}, pixels of {nbytes} bytes, {self.table.device})"

    def _as_index(self, ids: int | slice | Sequence[int] | Tensor) -> Tensor:
        if isinstance(ids, Tensor):
            if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
                raise TypeError(f"ids must be an integer tensor; got {ids.dtype}. Convert it with .to(torch.int64).")
            if ids.ndim != 1:
                raise ValueError(f"ids must be [B]; got shape {tuple(ids.shape)}. Flatten it with ids.reshape(-1).")
            index = ids.to(torch.int64)
        else:
            index = torch.tensor(self._as_list(ids), dtype=torch.int64)
        if not torch.compiler.is_compiling() and index.device.type == "cpu" and index.numel():
            low, high = (int(bound) for bound in torch.aminmax(index))
            if low < 0 or high >= len(self.images):
                wrong = low if low < 0 else high
                raise IndexError(f"ids must be from 0 to {len(self.images) - 1}; got {wrong}. Correct the id.")
        return index.to(self.table.device)

    def _as_list(self, ids: int | slice | Sequence[int]) -> list[int]:
        if isinstance(ids, slice):
            return list(range(len(self.images)))[ids]
        listed = [ids] if isinstance(ids, int) else ids
        if not isinstance(listed, (list, tuple, range)) or any(type(i) is not int for i in listed):
            raise TypeError(
                f"ids must be an int, a slice, a list of ints or an integer tensor; got {ids!r}. Convert it."
            )
        return list(listed)


def _send(bank: ImageBank) -> tuple[type[ImageBank], tuple[list[Tensor | PinnedImage], torch.device | None]]:
    """Sends a bank to another process: torch moves the images to shared memory here, and the table follows them."""
    for member in bank._members:
        if isinstance(member, Tensor) and member.device.type == "cpu":
            member.share_memory_()
        elif isinstance(member, PinnedImage):
            member._share()
    bank.images = bank._seen()
    with torch.inference_mode(bank.table.is_inference()):
        bank.table.copy_(bank._describe())
    return bank.__reduce__()


ForkingPickler.register(ImageBank, _send)


def descriptor(image: Tensor, name: str) -> tuple[int, ...]:
    """A row of the table, in the order of :data:`zoomkern.typing.TABLE_COLUMNS`."""
    return (image.data_ptr(), *image.shape, *image.stride(), dtype_code(image.dtype, name))


def _is_on(image: Tensor, device: torch.device) -> bool:
    return image.device.type == device.type and device.index in (None, image.device.index)


def _member(image: Tensor | PinnedImage, device: torch.device | None, name: str) -> Tensor:
    tensor = pixels_on(image, device)
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name} must be a [C, H, W] tensor or a PinnedImage; got {type(image).__name__}. "
            "Of a Pyramid pass one level, pyramid[0]; of an array PinnedImage.from_numpy(array)."
        )
    checks.dense(name, tensor)
    if tensor.ndim != 3:
        raise ValueError(f"{name} must be [C, H, W]; got shape {tuple(tensor.shape)}. Add or index a dimension.")
    if tensor.numel() == 0:
        raise ValueError(f"{name} must hold at least one pixel; got shape {tuple(tensor.shape)}. Leave it out.")
    if tensor.is_neg():
        raise ValueError(f"{name} must hold its own values; got a negated view. Use image.resolve_neg().")
    if tensor.requires_grad:
        raise ValueError(
            f"{name} must not require a gradient, which a table cannot carry. Use image.detach(), or a list."
        )
    return tensor

"""Many patches, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.functional.reads import gather_patches
from zoomkern.images.resolve import any_stored, resolve_images
from zoomkern.images.staging import staged
from zoomkern.typing import ImageBatch


def patch_batches(
    images: Sequence[Any],
    offsets: Tensor,
    patch_size: int | tuple[int, int],
    batch_size: int,
    *,
    level: int | None = None,
    **reading: Any,
) -> Iterator[Tensor]:
    """Many patches, some at a time; of images on disk the next ones are decoded while the caller uses these.

    Args:
        images: a list of ``B``, as for :func:`gather_patches`.
        offsets: ``[B, N, 2]`` int64, top-left ``(y, x)``.
        patch_size: ``(height, width)`` in output pixels, or one int.
        batch_size: patches at a time.
        level: level of the pyramids to read.
        **reading: further arguments of :func:`gather_patches`, but for ``out``.

    Yields:
        ``[batch_size, C, Ph, Pw]``, in the order of ``offsets.flatten(0, 1)``; the last may be smaller.

    Memory:
        One batch and, of images on disk, the windows of three.

    Raises:
        ValueError: as :func:`gather_patches`.
        ReadError: a file is damaged where it was read.

    Example:
        >>> for patches in zoomkern.patch_batches([pyramid], places[None], 224, 32, mean=0.5, std=0.5):
        ...     features.append(network(patches))
    """
    checks.integer("batch_size", batch_size, 1)
    checks.tensor("offsets", offsets, "an int64 tensor [B, N, 2]")
    if offsets.ndim != 3 or offsets.shape[2] != 2:
        cure = " Add the image's dimension with offsets[None]." if offsets.ndim == 2 else ""
        raise ValueError(f"offsets must be [B, N, 2], a (y, x) per patch; got {list(offsets.shape)}.{cure}")
    if "out" in reading:
        raise TypeError("out must be left to gather_patches: every batch is a tensor of its own. Drop it.")
    gather_patches(images, offsets[:, :0], patch_size, level=level, **reading)  # complains before the first batch
    resolved = resolve_images(images, level, offsets.device)
    if isinstance(resolved, ImageBatch):
        raise TypeError("images must be a list of images; got an ImageBatch. Pass [bank.images[i] for i in ids].")
    size = checks.pair("patch_size", patch_size)
    if any_stored(resolved):
        shift = reading.get("padding_mode") == "shift"
        inside = reading | {"padding_mode": "constant"}  # windows were moved before they were read
        for some in staged(
            list(resolved), offsets.cpu(), size, reading.get("step", 1), shift, offsets.device, batch_size
        ):
            yield gather_patches(some.images, some.offsets, size, **inside)[:, 0]
        return
    owner = torch.arange(offsets.shape[0]).repeat_interleave(offsets.shape[1]).tolist()
    places = offsets.reshape(-1, 1, 2)
    for first in range(0, len(owner), batch_size):
        some_images = [resolved[i] for i in owner[first : first + batch_size]]
        yield gather_patches(some_images, places[first : first + batch_size], size, **reading)[:, 0]

"""Windows of images that are not in memory, brought there by threads, some ahead of their use."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple, cast

import torch
from torch import Tensor

from zoomkern.images.nvimagecodec import DeviceTiles
from zoomkern.images.stored import StoredLevel, TiledLevel, window_of
from zoomkern.images.workers import decoders, processors
from zoomkern.reference.offsets import shift_inside
from zoomkern.typing import PADDED_OFFSET

#: Bytes of windows in one slot of the ring, about; a slot holds one window at least.
SLOT_BYTES = 1 << 22

#: Slots: one that is read by an op, the others being filled.
SLOTS = 3


class Staged(NamedTuple):
    """Some windows in memory.

    Args:
        first: place of the first among all ``B N`` patches.
        images: ``[m, C, h, w]`` where all windows are whole, else ``m`` tensors ``[C, h', w']``.
        offsets: ``[m, 1, 2]``, of the patches in these.
    """

    first: int
    images: Tensor | list[Tensor]
    offsets: Tensor


class _Window(NamedTuple):
    """The part of a patch that lies inside its image, in pixels of the image, and the patch's corner in that part."""

    image: int
    y: int
    x: int
    height: int
    width: int
    corner: tuple[int, int]


def staged(
    images: Sequence[Tensor | StoredLevel],
    offsets: Tensor,
    patch_size: tuple[int, int],
    step: int,
    shift: bool,
    device: torch.device,
    count: int | None = None,
) -> Iterator[Staged]:
    """The windows of all patches, in order; the threads work ahead while the caller uses them.

    On the CPU a window that was yielded is overwritten once the next one is asked for.

    Args:
        images: ``B`` images of equal channels and type, stored or in CPU memory.
        offsets: ``[B, N, 2]`` int64 on the CPU, top-left ``(y, x)``.
        patch_size: ``(h, w)`` in output pixels.
        step: every ``step``-th pixel will be read.
        shift: move windows inside the image first.
        device: where the windows are wanted; a GPU gets them through page-locked memory.
        count: windows that are yielded together, but for the last ones; None for as many as a slot has room for.

    Raises:
        ReadError: a file is damaged where it was read.
    """
    span = ((patch_size[0] - 1) * step + 1, (patch_size[1] - 1) * step + 1)
    if shift:
        sizes = torch.tensor([image.shape[1:] for image in images]).reshape(-1, 2)
        offsets = shift_inside(offsets, sizes, patch_size, step, PADDED_OFFSET)
    draws = max(offsets.shape[1], 1)
    places = offsets.reshape(-1, 2).tolist()
    windows = [_window(i // draws, images[i // draws], place, span) for i, place in enumerate(places)]
    channels, dtype = images[0].shape[0], images[0].dtype
    count = count or max(SLOT_BYTES // max(math.prod(span) * channels * dtype.itemsize, 1), 1)
    chunks = [windows[first : first + count] for first in range(0, len(windows), count)]
    if all(isinstance(image, TiledLevel) and image.decoder == "nvimgcodec" for image in images):
        levels = cast("Sequence[TiledLevel]", images)
        tiles = DeviceTiles(levels, device, span)
        for number, chunk in enumerate(chunks):
            slot = torch.empty((len(chunk), *span, channels), dtype=dtype, device=device)
            tiles.fill(slot, [(window.image, window[1:5]) for window in chunk])
            yield _views(slot, chunk, number * count, device)
        return
    slots = [
        torch.empty((min(count, len(windows)), *span, channels), dtype=dtype, pin_memory=device.type == "cuda")
        for _ in range(min(SLOTS, len(chunks)))
    ]
    ahead: deque[list[Future[None]]] = deque()
    copied: deque[torch.cuda.Event] = deque()
    try:
        for number in range(len(chunks) + len(slots)):
            if number >= len(slots):
                done = number - len(slots)
                for future in ahead.popleft():
                    future.result()
                views = _views(slots[done % len(slots)], chunks[done], done * count, device)
                if device.type == "cuda":
                    copied.append(torch.cuda.current_stream(device).record_event())
                yield views
            if number < len(chunks):
                if copied:
                    copied.popleft().synchronize()
                ahead.append(_fill(slots[number % len(slots)], chunks[number], images))
    finally:
        for future in (future for futures in ahead for future in futures):
            future.cancel() or future.exception()


def _window(image: int, pixels: Tensor | StoredLevel, place: list[int], span: tuple[int, int]) -> _Window:
    """A patch outside of its image has a window of one pixel, far from it."""
    (y, x), (rows, columns) = place, pixels.shape[1:]
    top, left = max(y, 0), max(x, 0)
    height, width = min(y + span[0], rows) - top, min(x + span[1], columns) - left
    if height < 1 or width < 1:
        return _Window(image, 0, 0, 1, 1, (PADDED_OFFSET, PADDED_OFFSET))
    return _Window(image, top, left, height, width, (y - top, x - left))


def _fill(slot: Tensor, windows: list[_Window], images: Sequence[Tensor | StoredLevel]) -> list[Future[None]]:
    """Has the threads copy the windows into a slot, each a share of them."""
    pixels = slot.numpy()

    def copy(some: Sequence[tuple[int, _Window]]) -> None:
        for place, (image, y, x, height, width, _) in some:
            pixels[place, :height, :width] = window_of(images[image], y, x, height, width)

    numbered = list(enumerate(windows))
    each = max(-(-len(numbered) // (4 * processors())), 1)
    pool = decoders()
    return [pool.submit(copy, numbered[first : first + each]) for first in range(0, len(numbered), each)]


def _views(slot: Tensor, windows: list[_Window], first: int, device: torch.device) -> Staged:
    pixels = slot[: len(windows)].to(device, non_blocking=True).permute(0, 3, 1, 2)
    offsets = torch.tensor([window.corner for window in windows]).reshape(-1, 1, 2).to(device)
    if all((window.height, window.width) == tuple(pixels.shape[2:]) for window in windows):
        return Staged(first, pixels, offsets)
    parts = [image[:, : window.height, : window.width] for image, window in zip(pixels, windows, strict=True)]
    return Staged(first, parts, offsets)

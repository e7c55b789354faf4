"""Floors: what the memory alone costs, measured in the same process."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bench.timing import measure

LINE = 64  # bytes of a cache line
HUGE = 1 << 21


@functools.cache
def bandwidths(device: torch.device = torch.device("cpu")) -> dict[str, float]:  # noqa: B008
    """Bytes per second, with all threads: ``fill`` writes; ``copy`` counts what it reads and what it writes."""
    size = 1 << (28 if device.type == "cpu" else 32)
    source, target = torch.ones(2, size // 4, device=device).unbind()
    fill = measure(lambda: target.fill_(1.0))
    copy = measure(lambda: target.copy_(source))
    return {"fill": size / fill, "copy": 2 * size / copy}


def fill_fresh(shape: Sequence[int]) -> Tensor:
    """A new float32 tensor, filled; in huge pages where the system gives them on request, as the op asks for too."""
    fresh = torch.empty(shape)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        begin = -(-fresh.data_ptr() // HUGE) * HUGE
        end = (fresh.data_ptr() + fresh.nbytes) // HUGE * HUGE
        if end > begin:
            _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_HUGEPAGE)
    return fresh.fill_(1.0)


def patch_reader(images: Sequence[Tensor], offsets: Tensor, patch: int) -> Callable[[], None]:
    """Reads, in all threads, each cache line of the patches once and writes next to nothing.

    A sum over the lines of a patch, as ``embedding_bag`` makes it, reads at the speed of memory.

    Args:
        images: ``[3, H, W]`` uint8 over contiguous HWC memory.
        offsets: ``[B, N, 2]``.
        patch: its size in pixels.
    """
    parts = []
    for image, at in zip(images, offsets, strict=True):
        lines = image.permute(1, 2, 0).flatten().view(torch.float32).view(-1, LINE // 4)
        row = at[:, :1] + torch.arange(patch)  # [N, P]
        first = (row * image.shape[2] + at[:, 1:]) * 3 // LINE
        touched = first[..., None] + torch.arange(3 * patch // LINE + 1)
        parts.append((lines, touched.clamp_(max=len(lines) - 1).flatten(1).to(torch.int32)))

    def read() -> None:
        for lines, touched in parts:
            embedding_bag(touched, lines, mode="sum")

    return read


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)

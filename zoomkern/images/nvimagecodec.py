"""JPEG tiles decoded by nvImageCodec where they are used: on a GPU, or in CPU memory by its decoders for that.

Source:
    NVIDIA nvImageCodec, ``nvidia.nvimgcodec.Decoder``.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern.images.readers.tiles import Window, parts_of, slices
from zoomkern.images.stored import TiledLevel

#: Bytes of tiles that are decoded together; those under one window at least.
MOST_BYTES = 1 << 28

Place = tuple[int, int, int]  # image, row and column


def library() -> Any:
    """The library.

    Raises:
        ImportError: It is not installed.
    """
    try:
        from nvidia import nvimgcodec
    except ImportError as error:
        raise ImportError(
            "decoder='nvimgcodec' needs nvImageCodec: pip install 'nvidia-nvimgcodec-cu13[all]', or -cu12 with CUDA 12"
        ) from error
    return nvimgcodec


class DeviceTiles:
    """Decoded tiles on a device: those that were asked for last, and no others.

    Args:
        levels: of each image.
        device: where tiles are wanted.
        span: ``(height, width)`` of the windows, in pixels.
    """

    def __init__(self, levels: Sequence[TiledLevel], device: torch.device, span: tuple[int, int]) -> None:
        self._levels = levels
        self._device = device
        most = max(_bytes_under(level, span) for level in levels)
        self._together = max(MOST_BYTES // most, 1)
        self._tiles: dict[Place, Tensor] = {}

    def fill(self, slot: Tensor, windows: Sequence[tuple[int, Window]]) -> None:
        """Copy windows of images to a slot ``[m, h, w, C]`` on the device.

        Args:
            slot: gets the i-th window at its top left.
            windows: of each the image, and the window inside it, no larger than ``[h, w]``.

        Raises:
            ReadError: A tile is damaged.
        """
        for first in range(0, len(windows), self._together):
            parts = [
                (slot[i], (image, row, column), part, target)
                for i, (image, window) in list(enumerate(windows))[first : first + self._together]
                for row, column, part, target in parts_of(window, self._levels[image].tile_size)
            ]
            tiles = self._fetch([place for _, place, _, _ in parts])
            for pixels, place, part, target in parts:
                pixels[slices(target)] = tiles[place][slices(part)]

    def _fetch(self, places: Sequence[Place]) -> dict[Place, Tensor]:
        """``[h, w, C]`` of each tile, whole also at the edges; what has to be decoded is decoded together."""
        found = {place: self._tiles[place] for place in places if place in self._tiles}
        files: dict[Place, bytes] = {}
        for place in dict.fromkeys(places):
            if place in found:
                continue
            image, row, column = place
            level = self._levels[image]
            data = level.tile_bytes(row, column)
            file = level.reader.tile_file(level.level, data)
            if file is None:
                found[place] = self._decoded(place)
            else:
                files[place] = file
        for (place, _), tile in zip(files.items(), self._decode(list(files.values())), strict=True):
            found[place] = self._decoded(place) if tile is None else tile
        self._tiles = found
        return found

    def _decoded(self, place: Place) -> Tensor:
        """A tile by the other decoder, which says what is wrong with it."""
        image, row, column = place
        level = self._levels[image]
        pixels = np.array(level.reader.decode_tile(level.level, level.tile_bytes(row, column)))
        return torch.from_numpy(pixels).to(self._device)

    def _decode(self, files: list[bytes]) -> list[Tensor | None]:
        if not files:
            return []
        if _forked:
            raise RuntimeError(
                "decoder='nvimgcodec' must not be used in a forked process whose parent used it: it would hang. "
                "Start workers with multiprocessing_context='spawn', or open images with decoder='imagecodecs' there."
            )
        with _LOCK:  # a decoder serves one call at a time, in threads of its own
            decoder, parameters = _decoder(self._device)
            if self._device.type == "cuda":
                stream = torch.cuda.current_stream(self._device).cuda_stream
                images = decoder.decode(files, params=parameters, cuda_stream=stream)
                return [None if image is None else torch.from_dlpack(image) for image in images]
            images = decoder.decode(files, params=parameters)
            return [None if image is None else torch.from_numpy(np.asarray(image.cpu())) for image in images]


_LOCK = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked, _LOCK
    _forked, _LOCK = _forked or _decoder.cache_info().currsize > 0, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _bytes_under(level: TiledLevel, span: tuple[int, int]) -> int:
    """Bytes of the tiles under a window of a level, at most."""
    tiles = math.prod((side - 1) // tile + 2 for side, tile in zip(span, level.tile_size, strict=True))
    return tiles * math.prod(level.tile_size) * level.shape[0] * level.dtype.itemsize


@functools.cache
def _decoder(device: torch.device) -> tuple[Any, Any]:
    """The decoder for a device, and its parameters."""
    codec = library()
    parameters = codec.DecodeParams(apply_exif_orientation=False)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return codec.Decoder(device_id=index, options=":fancy_upsampling=1"), parameters
    backends = [codec.Backend(codec.CPU_ONLY)]
    return codec.Decoder(device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=backends), parameters

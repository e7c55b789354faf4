"""JPEG tiles decoded by nvImageCodec where they are used: on a GPU, or in CPU memory by its decoders for that.

Source:
    NVIDIA nvImageCodec, ``nvidia.nvimgcodec.Decoder``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoomkern.images.readers import ReadError
from zoomkern.images.readers.tiles import Window, parts_of, slices
from zoomkern.images.stored import TiledLevel

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
    """

    def __init__(self, levels: Sequence[TiledLevel], device: torch.device) -> None:
        self._levels = levels
        self._device = device
        self._tiles: dict[Place, Tensor] = {}

    def copy(self, windows: Sequence[tuple[int, Window]], slot: Tensor) -> None:
        """Windows of images in a slot ``[m, h, w, C]`` on the device.

        Args:
            windows: of each the image, and the window inside it, no larger than ``[h, w]``.
            slot: gets the i-th window at its top left.

        Raises:
            ReadError: A tile is damaged.
        """
        parts = [
            (i, (image, row, column), part, target)
            for i, (image, window) in enumerate(windows)
            for row, column, part, target in parts_of(window, self._levels[image].tile_size)
        ]
        tiles = self._fetch([place for _, place, _, _ in parts])
        for i, place, part, target in parts:
            slot[i][slices(target)] = tiles[place][slices(part)]

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
                pixels = np.array(level.reader.decode_tile(level.level, data))
                found[place] = torch.from_numpy(pixels).to(self._device)
            else:
                files[place] = file
        for (place, _), tile in zip(files.items(), self._decode(list(files.values())), strict=True):
            level = self._levels[place[0]]
            wanted = (*level.tile_size, level.shape[0])
            if tile is None or tuple(tile.shape) != wanted:
                raise ReadError(
                    f"path must name a whole image; tile {place[1:]} of level {level.level} of {level.reader.name} is "
                    "damaged. Fetch or export it again."
                )
            found[place] = tile
        self._tiles = found
        return found

    def _decode(self, files: list[bytes]) -> list[Tensor | None]:
        if not files:
            return []
        decoder, parameters = _decoder(os.getpid(), self._device)
        if self._device.type == "cuda":
            stream = torch.cuda.current_stream(self._device).cuda_stream
            images = decoder.decode(files, params=parameters, cuda_stream=stream)
            return [None if image is None else torch.from_dlpack(image) for image in images]
        images = decoder.decode(files, params=parameters)
        return [None if image is None else torch.from_numpy(np.asarray(image.cpu())) for image in images]


@functools.cache
def _decoder(process: int, device: torch.device) -> tuple[Any, Any]:
    """A decoder of this process for a device, and its parameters."""
    codec = library()
    parameters = codec.DecodeParams(apply_exif_orientation=False)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return codec.Decoder(device_id=index, options=":fancy_upsampling=1"), parameters
    backends = [codec.Backend(codec.CPU_ONLY)]
    return codec.Decoder(device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=backends), parameters

"""OME-Zarr: the image format of the web and of microscopy, a folder of compressed tiles.

Source:
    "Next-generation file formats", version 0.4 (https://ngff.openmicroscopy.org/0.4): Zarr format 2, which Zarr 2 and 3
    and every viewer of OME-Zarr read; 0.5 needs Zarr 3.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.reader import numpy_type
from zoomkern.images.writers.writer import Pixels, Writer, sync_folder

_COLOURS = {3: (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF")), 1: (("grey", "FFFFFF"),)}


class OmeZarr(Writer):
    """A group of ``[C, H, W]`` arrays with a chunk for every tile; those of background alone are left out."""

    is_folder = True
    libraries = ("zarr",)

    def start(self, mark: int | None) -> None:
        """As :meth:`Writer.start`; a chunk is a file of its own, and what a killed run was writing is removed."""
        zarr = library("zarr", "slides")
        self.path.mkdir(exist_ok=True)
        for unfinished in self.path.rglob("*.partial"):
            unfinished.unlink()
        if mark is None:
            for level, size in enumerate(self.header.level_dimensions):
                (self.path / str(level)).mkdir(exist_ok=True)
                _write_json(self.path / str(level) / ".zarray", self._array(size))
        paths = [str(self.path / str(level)) for level in range(len(self.header.level_dimensions))]
        self._arrays = [zarr.open_array(path, mode="r+") for path in paths]

    def write(self, level: int, y: int, x: int, pixels: Pixels) -> None:
        """As :meth:`Writer.write`."""
        side = self.tile
        for row, column, tile in self.filled(y, x, pixels):
            top, left = row * side, column * side
            bottom, right = top + tile.shape[0], left + tile.shape[1]
            self._arrays[level][:, top:bottom, left:right] = tile.transpose(2, 0, 1)

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """As :meth:`Writer.read`."""
        planes = np.asarray(self._arrays[level][:, y : y + height, x : x + width])
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def is_empty(self, level: int, y: int, x: int, height: int, width: int) -> bool:
        """As :meth:`Writer.is_empty`."""
        rows, columns = self.tiles_under(y, x, height, width)
        chunks = self.path / str(level) / "0"
        return not any(
            (chunks / str(row) / str(column)).exists()
            for row in range(rows.start, rows.stop)
            for column in range(columns.start, columns.stop)
        )

    def mark(self) -> int:
        """As :meth:`Writer.mark`."""
        os.sync()
        return 0

    def finish(self) -> None:
        """As :meth:`Writer.finish`; what makes it an image is written last."""
        _write_json(self.path / ".zgroup", {"zarr_format": 2})
        _write_json(self.path / ".zattrs", self._attributes())
        os.sync()
        sync_folder(self.path)

    def close(self) -> None:
        """As :meth:`Writer.close`."""
        self._arrays = []

    def _array(self, size: tuple[int, int]) -> dict[str, Any]:
        dtype = numpy_type(self.header.dtype)
        background = self.header.background
        return {
            "zarr_format": 2,
            "shape": [self.header.channels, size[1], size[0]],
            "chunks": [self.header.channels, self.tile, self.tile],
            "dtype": dtype.newbyteorder("<").str,
            "compressor": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0},
            "fill_value": _number(background) if dtype.kind == "f" else int(background),
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }

    def _attributes(self) -> dict[str, Any]:
        header = self.header
        unit = {} if header.mpp is None else {"unit": "micrometer"}
        mpp = 1.0 if header.mpp is None else header.mpp
        sizes = [2.0**level * mpp for level in range(len(header.level_dimensions))]
        multiscale = {
            "version": "0.4",
            "name": self.header.properties.get("zoomkern.name", ""),
            "axes": [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "yx")],
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1.0, size, size]},
                        {"type": "translation", "translation": [0.0, (size - mpp) / 2, (size - mpp) / 2]},
                    ],
                }
                for level, size in enumerate(sizes)
            ],
            "type": "mean of two by two pixels",
        }
        own = {
            "background": _number(header.background),
            "mpp": header.mpp,
            "nodata": None if header.nodata is None else _number(header.nodata),
            "transform": header.transform,
            "crs": header.crs,
            "properties": dict(header.properties),
        }
        attributes = {"multiscales": [multiscale], "zoomkern": own}
        if header.channels in _COLOURS and not header.dtype.is_floating_point:
            top = np.iinfo(numpy_type(header.dtype)).max
            window = {"min": 0, "max": int(top), "start": 0, "end": int(top)}
            attributes["omero"] = {
                "channels": [
                    {"label": label, "color": colour, "window": window, "active": True}
                    for label, colour in _COLOURS[header.channels]
                ],
                "rdefs": {"model": "color" if header.channels == 3 else "greyscale"},
            }
        return attributes


def _number(value: float) -> float | str:
    """A number as Zarr's metadata has it, where JSON has none."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1))

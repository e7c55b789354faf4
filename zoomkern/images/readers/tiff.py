"""TIFF: tiled, pyramidal, OME, GeoTIFF, strips; tifffile reads the directories, imagecodecs decodes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.geotiff import crs_of, nodata_of, transform_of
from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.ome import parse_ome
from zoomkern.images.readers.pixels import background
from zoomkern.images.readers.reader import MAX_TILE_BYTES, Header, Reader, numpy_type
from zoomkern.images.readers.resolution import mean_mpp
from zoomkern.images.readers.tiff_colour import Colour, colour_of
from zoomkern.images.readers.tiff_directories import check_directories
from zoomkern.images.readers.tiff_pages import Plane, pages_after_first, plane_of, pyramid_pages
from zoomkern.images.readers.tiff_segments import (
    check_compression,
    decode_segment,
    read_rows,
    segment_bytes,
    whole_jpeg,
)
from zoomkern.images.readers.tiles import Window, assemble

_TEXT_TAGS = {"ImageDescription": 270, "Make": 271, "Model": 272, "Software": 305, "DateTime": 306, "Artist": 315}
_MOST_TEXT = 1 << 16
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _CENTIMETRE = 282, 283, 296, 3
#: A resolution per centimetre below so many microns per pixel is that of an instrument; 300 dots per inch are 84.
_MOST_INSTRUMENT_MPP = 10.0
_APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")


class _Tiff(NamedTuple):
    file: RawFile
    levels: tuple[tuple[Plane, ...], ...]  # of each level the planes: one, or one for each channel
    colour: Colour
    header: Header


class TiffReader(Reader):
    """The first image of a TIFF file and its smaller copies, whether they are SubIFDs or pages of their own.

    Gray, RGB, palettes and CMYK become gray or RGB, what is transparent lies on white; other samples are bands.
    Integers of 8 or 16 bits with a sign become float32, those of 32 bits float64. A strip or tile that the file leaves
    out has the header's ``background``. Uncompressed strips are read row by row, others as a whole.
    """

    def _open(self) -> _Tiff:
        tifffile = library("tifffile", "slides")
        library("imagecodecs", "slides")
        file = RawFile(self.path)
        check_directories(file)
        with tifffile.TiffFile(self.path) as tiff:
            first = tiff.pages[0]
            ome = parse_ome(first.description, first.samplesperpixel)
            bases = [tiff.pages[page].aspage() for page in ome.pages] if ome else [first]
            following = pages_after_first(tiff, file)
            channels = [pyramid_pages(base, following if len(bases) == 1 else []) for base in bases]
            levels = tuple(tuple(map(plane_of, pages)) for pages in zip(*channels, strict=False))
            for planes in levels:
                _check_planes(planes)
            samples = len(channels) if len(channels) > 1 else first.samplesperpixel
            colour = colour_of(first, samples)
            mpp = ome.mpp if ome else _mpp_of(first)
            header = self._described(first, levels, colour, mpp)
        return _Tiff(file, levels, colour, header)

    def _described(self, page: Any, levels: tuple[tuple[Plane, ...], ...], colour: Colour, mpp: float | None) -> Header:
        transform, nodata = transform_of(page), nodata_of(page)
        outside = 0.0 if transform is not None or not colour.is_colour else background(colour.channels, colour.dtype)
        texts = {name: page.tags.valueof(code) for name, code in _TEXT_TAGS.items()}
        return Header(
            tuple((planes[0].width, planes[0].height) for planes in levels),
            colour.channels,
            colour.dtype,
            tuple(_tile_size(planes) for planes in levels),
            mpp=None if transform is not None else mpp,
            background=outside if nodata is None else nodata,
            nodata=nodata,
            transform=transform,
            crs=None if transform is None else crs_of(page, self.path),
            properties={f"tiff.{name}": text[:_MOST_TEXT] for name, text in texts.items() if isinstance(text, str)},
        )

    def _read_header(self, handle: _Tiff) -> Header:
        return handle.header

    def _tile_bytes(self, handle: _Tiff, level: int, row: int, column: int) -> bytes | None:
        (plane,) = handle.levels[level]
        return segment_bytes(handle.file, plane, row * plane.across + column)

    def _decode_tile(self, handle: _Tiff, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        (plane,) = handle.levels[level]
        if data is None:
            return self._empty(*plane.tile)
        return handle.colour.pixels(decode_segment(plane, 0, data))

    def _tile_file(self, handle: _Tiff, level: int, data: bytes) -> bytes | None:
        (plane,) = handle.levels[level]
        return whole_jpeg(plane, data, handle.colour.is_rgb) if handle.colour.is_plain else None

    def _read_window(self, handle: _Tiff, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        planes = handle.levels[level]

        def read(row: int, column: int, part: Window) -> np.ndarray[Any, Any]:
            samples = [
                samples
                for plane in planes
                for first in (range(plane.samples) if plane.planar else (0,))
                for samples in [
                    _read_part(handle.file, plane, (first * plane.down + row) * plane.across + column, part)
                ]
            ]
            there = next((part for part in samples if part is not None), None)
            if there is None:
                return self._empty(part[2], part[3])
            if len(samples) == 1:
                return handle.colour.pixels(there)
            outside = there.dtype.type(self.header.nodata or 0)
            return handle.colour.pixels(
                np.concatenate([np.full_like(there, outside) if part is None else part for part in samples], axis=2)
            )

        return assemble((y, x, height, width), planes[0].tile, read)

    def _empty(self, height: int, width: int) -> np.ndarray[Any, Any]:
        return np.full((height, width, self.header.channels), self.header.background, numpy_type(self.header.dtype))


def _read_part(file: RawFile, plane: Plane, index: int, part: Window) -> np.ndarray[Any, Any] | None:
    """A window of a tile or strip; None where the file leaves it out."""
    if plane.raw:
        return read_rows(file, plane, index, part)
    data = segment_bytes(file, plane, index)
    if data is None:
        return None
    y, x, height, width = part
    return decode_segment(plane, index, data)[y : y + height, x : x + width]


def _tile_size(planes: tuple[Plane, ...]) -> tuple[int, int] | None:
    """The size of tiles that can be had one by one: one run of bytes has all channels."""
    return planes[0].tile if len(planes) == 1 and planes[0].tiled and not planes[0].planar else None


def _check_planes(planes: tuple[Plane, ...]) -> None:
    """What is decoded later must be bounded, and the channels of a level must match."""
    first = planes[0]
    if any((plane.width, plane.height, plane.tile) != (first.width, first.height, first.tile) for plane in planes):
        raise ValueError("its channels differ in size")
    if len(planes) > 1 and any(plane.samples != 1 or plane.dtype != first.dtype for plane in planes):
        raise ValueError("its channels differ in type")
    for plane in planes:
        check_compression(plane.compression)
        nbytes = plane.tile[0] * plane.tile[1] * plane.samples * plane.dtype.itemsize
        if not plane.raw and nbytes > MAX_TILE_BYTES:
            kind = "tiles" if plane.tiled else "strips"
            raise ValueError(
                f"its {kind} of {plane.tile[1]} x {plane.tile[0]} pixels take {nbytes} bytes, beyond {MAX_TILE_BYTES}; "
                "write it with tiles"
            )


def _mpp_of(page: Any) -> float | None:
    """From Aperio's description, or a resolution per centimetre that is finer than that of photographs."""
    said = _APERIO_MPP.search(page.description)
    if said:
        return mean_mpp(said[1], said[1])
    if page.tags.valueof(_RESOLUTION_UNIT) != _CENTIMETRE:
        return None
    sides = [page.tags.valueof(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    if not all(isinstance(side, tuple) and len(side) == 2 and all(side) for side in sides):
        return None
    mpp = mean_mpp(*(10_000 * below / above for above, below in sides))
    return mpp if mpp is not None and mpp < _MOST_INSTRUMENT_MPP else None

"""Tiles and strips of a TIFF file, decoded within bounds."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from zoomkern.images.readers.files import RawFile
from zoomkern.images.readers.tiff_pages import Plane

_JPEG, _JPEG2000, _WEBP = (7,), (33003, 33004, 33005, 34712), (50001,)

#: Adobe's marker that samples are not to be converted.
_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)

#: Compressions whose decoder gets the size of its result: none, CCITT, LZW, deflate, PackBits, LZMA, Zstandard.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32946, 32773, 34925, 50000)


def check_compression(compression: int) -> None:
    """Only what can be decoded within bounds.

    Raises:
        ValueError: It is another one.
    """
    if compression not in (*_JPEG, *_JPEG2000, *_WEBP, *_BOUNDED):
        raise ValueError(
            f"its compression {compression} is none of LZW, deflate, Zstandard, JPEG, JPEG 2000, WebP and the like; "
            "convert it, or install zoomkern[slides] for slides of a scanner"
        )


def segment_bytes(file: RawFile, plane: Plane, index: int) -> bytes | None:
    """A tile or strip as the file holds it; None for one that is left out."""
    offset, count = int(plane.offsets[index]), int(plane.counts[index])
    return None if offset == 0 or count == 0 else file.read(offset, count)


def decode_segment(plane: Plane, index: int, data: bytes) -> np.ndarray[Any, Any]:
    """``[height, width, samples]``; a strip is as long as it is, a tile whole also at the edges.

    Raises:
        Exception: The bytes are no such tile.
    """
    size = _announced(plane, data)
    if size is not None and (size[0] > plane.tile[0] or size[1] > plane.tile[1]):
        raise ValueError(f"a tile says that it has {size[1]} x {size[0]} pixels, the file {plane.tile[::-1]}")
    tables = {"jpegtables": plane.tables} if plane.compression in _JPEG else {}
    pixels = plane.decode(data, index, **tables, _fullsize=plane.tiled)[0]
    return np.asarray(pixels)[0]


def whole_jpeg(plane: Plane, data: bytes, is_rgb: bool) -> bytes | None:
    """A JPEG tile as a file of its own, with the tables that all tiles share; None where it is none of three samples.

    Args:
        plane: of the tile.
        data: the tile as the file holds it.
        is_rgb: whether the file says that its samples are RGB; the JPEG will say so too.
    """
    if plane.compression not in _JPEG or plane.samples != 3 or plane.planar or plane.dtype.itemsize != 1:
        return None
    frame = _start_of_frame(data)
    if frame is None or _jpeg_size(data) != plane.tile:
        return None
    tables = plane.tables[2:-2] if plane.tables else b""
    return data[:2] + tables + data[2:frame] + (_RGB if is_rgb else b"") + data[frame:]


def read_rows(
    file: RawFile, plane: Plane, index: int, window: tuple[int, int, int, int]
) -> np.ndarray[Any, Any] | None:
    """A window ``(y, x, height, width)`` of a strip that is not compressed: no more is read than that."""
    offset = int(plane.offsets[index])
    if offset == 0 or int(plane.counts[index]) == 0:
        return None
    y, x, height, width = window
    samples = 1 if plane.planar else plane.samples
    rows = plane.tile[0]
    return file.read_block(offset, (rows, plane.width, samples), plane.dtype, (y, x, 0), (height, width, samples))


def _announced(plane: Plane, data: bytes) -> tuple[int, int] | None:
    """``(height, width)`` that a compressed image says it has; None where its decoder is told."""
    if plane.compression in _JPEG:
        if not data.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
            raise ValueError("a JPEG tile was cut")
        return _jpeg_size(data)
    if plane.compression in _JPEG2000:
        return _jpeg2000_size(data, 1 if plane.planar else plane.samples, 8 * plane.dtype.itemsize)
    return _webp_size(data) if plane.compression in _WEBP else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the first start-of-frame marker; a stream without one is refused by the decoder itself."""
    at = _start_of_frame(data)
    if at is None:
        return None
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    return height, width


def _start_of_frame(data: bytes) -> int | None:
    """Where the first marker of a JPEG lies that tells its size."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("its JPEG markers are damaged")
        marker = data[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return at
        if marker in (0xD9, 0xDA):
            break
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _jpeg2000_size(data: bytes, samples: int, bits: int) -> tuple[int, int]:
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        raise ValueError("a tile is no JPEG 2000")
    right, bottom, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
    (components,) = struct.unpack(">H", data[start + 40 : start + 42])
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    if components != samples or any((depth & 0x7F) + 1 > bits for depth in depths):
        raise ValueError(f"a tile says that it has {components} components, the file {samples} of {bits} bits")
    return bottom - top, right - left


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    raise ValueError("a tile is no WebP")

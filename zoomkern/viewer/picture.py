"""An image as the page shows it: windows of the reader, made small, stretched to 8 bits, and encoded."""

from __future__ import annotations

import io
import itertools
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from zoomkern.viewer.tiles import DeepZoom, Source

if TYPE_CHECKING:
    from PIL import Image

    from zoomkern.images.readers import Reader

Pixels = np.ndarray[Any, np.dtype[Any]]

#: Bytes of stored pixels that a tile holds at a time, about.
MOST_BYTES = 1 << 26
#: Bytes of encoded tiles that are kept.
CACHE_BYTES = 1 << 26
#: Tiles made at the same time.
WORKERS = 4
_QUALITY = 90
_SAMPLES = 4  # windows along a side that a stretch is chosen from
_SAMPLE = 512  # and the side of one
_TAILS = (0.5, 99.5)  # percentiles that become black and white


class Stretch(NamedTuple):
    """A linear map from pixel values to 8 bits.

    Args:
        bands: the image's channels that are shown: one as grey, or three as red, green and blue.
        low: of each of them the value that is black.
        high: the value that is white.
    """

    bands: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Picture:
    """Tiles of an image for the page.

    Colour of 8 bits is shown as it is. Other pixels go through a linear stretch, chosen once from the coarsest level:
    one map for a colour image's three bands, so that colours stay; one of its own for each band of others.

    Args:
        reader: the image.

    Attributes:
        zoom: the levels of the page.
        stretch: None for colour of 8 bits.
        media: the type of the encoded tiles.

    Raises:
        ImportError: Pillow is missing.
        ValueError: the image is too large to be shown without smaller levels.
        ReadError: the image is damaged.
    """

    def __init__(self, reader: Reader) -> None:
        try:
            import PIL.Image  # noqa: F401
        except ModuleNotFoundError as error:
            raise ImportError("the viewer needs Pillow: pip install 'zoomkern[slides]'") from error
        self.reader = reader
        try:
            self.zoom = DeepZoom(reader.level_dimensions)
        except ValueError as error:
            raise ValueError(f"{reader.name} cannot be shown: {error}") from None
        plain = reader.header.dtype == torch.uint8 and reader.header.channels >= 3
        self.stretch = None if plain else choose_stretch(reader)
        self.media = "image/jpeg" if plain else "image/png"
        self._cache = TileCache(CACHE_BYTES)
        self._workers = threading.BoundedSemaphore(WORKERS)

    def tile(self, level: int, column: int, row: int, wanted: Any = lambda: True) -> bytes | None:
        """A tile, encoded; None where nobody wants it any more when its turn comes.

        Args:
            level: of the page, :attr:`zoom`'s.
            column: of the tile.
            row: of the tile.
            wanted: asked before the work begins.

        Raises:
            IndexError: there is no such tile.
            ReadError: the image is damaged there.
        """
        source = self.zoom.source(level, column, row)
        key = (level, column, row)
        data = self._cache.get(key)
        if data is not None:
            return data
        with self._workers:
            if not wanted():
                return None
            data = encode(self.render(source), self.media)
        self._cache.put(key, data)
        return data

    def render(self, source: Source) -> Pixels:
        """``[h, w, 1 or 3]`` uint8 of a tile, read in bands of rows.

        Raises:
            ReadError: the image is damaged there.
        """
        width, height = source.size
        _, top, _, bottom = source.box
        step = (bottom - top) / height
        header = self.reader.header
        row_bytes = math.ceil(source.box[2] - source.box[0]) * header.channels * max(header.dtype.itemsize, 4)
        rows = max(1, min(height, int(MOST_BYTES / (row_bytes * max(step, 1)))))
        bands = [self._band(source, width, first, min(first + rows, height), step) for first in range(0, height, rows)]
        return np.concatenate(bands)

    def _band(self, source: Source, width: int, first: int, last: int, step: float) -> Pixels:
        left, top, right, _ = source.box
        upper, lower = top + first * step, top + last * step
        x0, y0 = math.floor(left), math.floor(upper)
        columns, rows = self.reader.level_dimensions[source.level]
        x1, y1 = min(math.ceil(right), columns), min(math.ceil(lower), rows)
        window = self.reader.read_window(source.level, y0, x0, y1 - y0, x1 - x0)
        box = (left - x0, upper - y0, min(right, x1) - x0, min(lower, y1) - y0)
        size = (width, last - first)
        if self.stretch is None:
            return np.asarray(_resized(window[..., :3], size, box))
        shown = _values(window, self.stretch.bands, self.reader.header.nodata)
        return stretched(np.stack([_resized(band, size, box) for band in shown], -1), self.stretch)


class TileCache:
    """The encoded tiles that were asked for last.

    Args:
        most: bytes that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self._tiles: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> bytes | None:
        """The tile, or None."""
        with self._lock:
            data = self._tiles.get(key)
            if data is not None:
                self._tiles.move_to_end(key)
            return data

    def put(self, key: tuple[int, int, int], data: bytes) -> None:
        """Keeps a tile and lets the oldest go."""
        with self._lock:
            self.bytes += len(data) - len(self._tiles.pop(key, b""))
            self._tiles[key] = data
            while self.bytes > self.most:
                self.bytes -= len(self._tiles.popitem(last=False)[1])


def choose_stretch(reader: Reader) -> Stretch:
    """Black and white at the tails of the values in a few windows of the coarsest level.

    Raises:
        ReadError: the image is damaged there.
    """
    channels = reader.header.channels
    bands = (0, 1, 2) if channels >= 3 else (0,)
    level = reader.level_count - 1
    width, height = reader.level_dimensions[level]
    samples = [
        _values(reader.read_window(level, y, x, min(_SAMPLE, height), min(_SAMPLE, width)), bands, reader.header.nodata)
        for y, x in itertools.product(_starts(height), _starts(width))
    ]
    values = [np.concatenate([sample[i].ravel() for sample in samples]) for i in range(len(bands))]
    if channels == 3:
        values = [np.concatenate(values)] * 3
    limits = [_limits(band[np.isfinite(band)]) for band in values]
    return Stretch(bands, tuple(low for low, _ in limits), tuple(high for _, high in limits))


def stretched(values: Pixels, stretch: Stretch) -> Pixels:
    """``[h, w, bands]`` floating point to uint8; what is no number is black."""
    low, high = np.array(stretch.low), np.array(stretch.high)
    scaled = np.nan_to_num((values.astype(np.float64) - low) * (255 / (high - low)), nan=0.0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def encode(pixels: Pixels, media: str) -> bytes:
    """A JPEG or PNG of ``[h, w, 1 or 3]`` uint8."""
    stream = io.BytesIO()
    image = _image(pixels)
    if media == "image/jpeg":
        image.save(stream, "JPEG", quality=_QUALITY)
    else:
        image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _image(pixels: Pixels) -> Image.Image:
    from PIL import Image

    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat))


def _resized(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float]) -> Pixels:
    """Means of the pixels below each of ``size``, or values between them where there are fewer; ``box`` as Pillow's."""
    from PIL import Image

    smaller = box[2] - box[0] >= size[0] and box[3] - box[1] >= size[1]
    kind = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(_image(pixels).resize(size, kind, box))


def _values(window: Pixels, bands: tuple[int, ...], nodata: float | None) -> list[Pixels]:
    """The bands as float32, without the pixels that are none."""
    found = [window[..., band].astype(np.float32) for band in bands]
    if nodata is not None:
        for band in found:
            band[band == np.float32(nodata)] = np.nan
    return found


def _starts(side: int) -> list[int]:
    """Where windows begin that lie evenly over a side, or cover it where it is short."""
    number = min(_SAMPLES, -(-side // _SAMPLE))
    return [i * (side - _SAMPLE) // (number - 1) if number > 1 else 0 for i in range(number)]


def _limits(values: Pixels) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, _TAILS)
    if not high > low:
        low, high = values.min(), values.max()
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)

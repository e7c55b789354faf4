"""An image made smaller, anti-aliased, at any scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoomkern import checks
from zoomkern.images.pinned import PinnedImage, pixels_on
from zoomkern.images.pyramid import Pyramid
from zoomkern.images.stored import ReducedLevel, StoredLevel


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """``(H, W)`` of an image of ``size`` at ``scale``: rounded, at least 1."""
    return max(round(scale * size[0]), 1), max(round(scale * size[1]), 1)


#: Bytes of a stored level that is read whole.
MOST_BYTES = 1 << 26

#: Pixels of 16 bits that are made float32 at a time, about.
_BAND_PIXELS = 1 << 20

_Pair = tuple[float, float]


def scaled(image: Tensor | PinnedImage | Pyramid | StoredLevel, size: tuple[int, int]) -> Tensor:
    """A copy of ``size`` in which every pixel is a weighted mean of all that it covers.

    The weights are a triangle's (``antialias=True`` of :func:`torch.nn.functional.interpolate`), so nothing that the
    image holds falls between the pixels. Of a pyramid the coarsest level that is not smaller is read. A stored level of
    more than 64 MiB is first made smaller by a whole factor, band by band, whose pixels are plain means.

    Args:
        image: ``[C, H, W]``, uint8, uint16 or floating point.
        size: ``(h, w)`` in pixels.

    Returns:
        ``[C, h, w]``, contiguous, in the image's type; integers are rounded.

    Memory:
        Beside the result a float32 copy of the rows of ``w`` pixels, ``4 C H w`` bytes; nothing of the image's size.

    Raises:
        TypeError: pixels of a type that cannot be averaged.
    """
    height, width = checks.pair("size", size)
    if isinstance(image, Pyramid):
        fits = [level for level in image.levels if level.shape[1] >= height and level.shape[2] >= width]
        image = fits[-1] if fits else image.levels[0]
    factor = _first_step(image, height, width) if isinstance(image, StoredLevel) else 1
    if isinstance(image, StoredLevel):
        pixels = (ReducedLevel(image, factor) if factor > 1 else image).whole()
    else:
        pixels = pixels_on(image, None)
    if pixels.ndim != 3:
        raise ValueError(f"image must be [C, H, W]; got {list(pixels.shape)}.")
    if pixels.dtype not in (torch.uint8, torch.uint16) and not pixels.is_floating_point():
        raise TypeError(f"image must be uint8, uint16 or floating point; got {pixels.dtype}. Convert it first.")
    if (height, width) == tuple(pixels.shape[1:]):
        return pixels.contiguous()
    factors = None
    if factor > 1:  # the last row and column of the first step may stand for fewer pixels than the others
        down, across = (
            side * factor / full * (1 + 1e-12) for side, full in zip((height, width), image.shape[1:], strict=True)
        )
        factors = (down, across)
    # one pixel of three channels fails an assertion of torch's bytes (2.13)
    by_float = pixels.dtype in (torch.uint16, torch.float16) or (pixels.dtype == torch.uint8 and height * width == 1)
    means = _means_by_float32 if by_float else _means
    return means(pixels, (height, width), factors).contiguous()


def _means(pixels: Tensor, size: tuple[int, int], factors: _Pair | None) -> Tensor:
    """``[C, *size]``; by the factors where they are given, which ``size`` is the outcome of."""
    where = {"size": size} if factors is None else {"scale_factor": factors}
    return F.interpolate(pixels[None], **where, mode="bilinear", antialias=True, align_corners=False)[0]


def _means_by_float32(pixels: Tensor, size: tuple[int, int], factors: _Pair | None) -> Tensor:
    """The same of types which torch does not average: in float32, along rows and then along columns, as it does."""
    channels, height, width = pixels.shape
    rows = max(_BAND_PIXELS // width, 1)
    narrow = torch.empty(channels, height, size[1], device=pixels.device)
    for band, target in zip(pixels.split(rows, 1), narrow.split(rows, 1), strict=True):
        target.copy_(_means(band.float(), (band.shape[1], size[1]), factors and (1.0, factors[1])))
    means = _means(narrow, size, factors and (factors[0], 1.0))
    return (means if pixels.is_floating_point() else means.round()).to(pixels.dtype)


def _first_step(level: StoredLevel, height: int, width: int) -> int:
    """The whole factor by which a large level is made smaller first, to no less than twice the size wanted."""
    if math.prod(level.shape) * level.dtype.itemsize <= MOST_BYTES:
        return 1
    return max(min(level.shape[1] // (2 * height), level.shape[2] // (2 * width)), 1)

"""The samples of a TIFF file as gray, RGB or bands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from zoomkern.images.readers.pixels import as_pixels, on_white, pixel_dtype, rgb_of_cmyk

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6

_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples that mean opacity

#: Compressions whose decoder turns YCbCr into RGB.
_JPEG = (6, 7, 34892, 33007)


#: Aperio's JPEG 2000 without a transform of colours.
_APERIO_YCBCR = (33003, 33004)


class Colour(NamedTuple):
    """How samples become pixels.

    Args:
        photometric: TIFF's number.
        bits: of a sample.
        colours: samples that are colour; one of opacity may follow.
        alpha: 0 for none, else the value of ExtraSamples.
        palette: ``[3, entries]`` uint8, None without one.
        samples: of a pixel in the file.
        dtype: of the pixels.
        channels: of the pixels.
    """

    photometric: int
    bits: int
    colours: int
    alpha: int
    palette: np.ndarray[Any, Any] | None
    samples: int
    dtype: torch.dtype
    channels: int

    @property
    def is_colour(self) -> bool:
        """Whether paper, not darkness, lies behind the picture."""
        return self.photometric not in (_MIN_IS_BLACK,)

    @property
    def is_rgb(self) -> bool:
        """Whether samples are red, green and blue."""
        return self.photometric == _RGB

    @property
    def is_plain(self) -> bool:
        """Whether the three samples of 8 bits that a decoder gives are the pixels."""
        return self.photometric in (_RGB, _YCBCR) and (self.bits, self.samples, self.channels) == (8, 3, 3)

    def pixels(self, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """``[H, W, C]`` of ``[H, W, samples]``."""
        if self.palette is not None:
            return np.ascontiguousarray(self.palette[:, samples[..., 0]].transpose(1, 2, 0))
        if self.bits < 8 and samples.dtype == np.uint8:
            samples = samples * np.uint8(255 // ((1 << self.bits) - 1))
        samples = as_pixels(samples)
        if self.photometric == _MIN_IS_WHITE:
            samples = samples.copy()
            most = (1 << self.bits) - 1 if self.bits > 8 else 255
            samples[..., 0] = samples.dtype.type(most) - samples[..., 0]
        if self.photometric == _SEPARATED:
            return rgb_of_cmyk(samples[..., :4])
        if self.alpha:
            split = self.colours
            return on_white(samples[..., :split], samples[..., split : split + 1], self.alpha == _ASSOCIATED)
        return np.ascontiguousarray(samples)


def colour_of(page: Any, samples: int) -> Colour:
    """What a directory says of its samples.

    Args:
        page: tifffile's.
        samples: of a pixel, those of the other directories of its channels included.

    Raises:
        ValueError: Its colour space is none that becomes RGB without a profile.
    """
    photometric, bits = int(page.photometric), page.bitspersample
    if int(page.compression) in _APERIO_YCBCR:
        raise ValueError("its JPEG 2000 is YCbCr whatever its tags say; OpenSlide reads it: install zoomkern[slides]")
    if not isinstance(bits, int) or not isinstance(page.dtype, np.dtype):
        raise ValueError(f"its samples have {bits} bits")
    needed = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _PALETTE: 1, _SEPARATED: 4, _YCBCR: 3}.get(photometric)
    if needed is None or samples < needed or (photometric == _YCBCR and int(page.compression) not in _JPEG):
        raise ValueError(
            f"its {samples} samples of photometric interpretation {photometric}, compression {int(page.compression)}, "
            "do not become RGB here; convert it to RGB"
        )
    dtype = pixel_dtype(page.dtype)
    if photometric in (_MIN_IS_WHITE, _SEPARATED) and dtype.is_floating_point:
        raise ValueError(f"its inks are {page.dtype}; convert it to RGB")
    if photometric == _PALETTE:
        table = page.colormap
        if samples != 1 or table is None or table.shape != (3, 1 << bits) or bits > 16:
            raise ValueError("its palette does not fit its samples")
        wide = table >> 8 if table.max() > 255 else table  # some writers fill the low bytes alone
        return Colour(photometric, bits, 1, 0, wide.astype(np.uint8), 1, torch.uint8, 3)
    if photometric == _SEPARATED:
        return Colour(photometric, bits, 4, 0, None, samples, dtype, 3)
    extras = tuple(int(extra) for extra in page.extrasamples)
    alpha = extras[0] if samples == needed + 1 and extras and extras[0] in (_ASSOCIATED, _UNASSOCIATED) else 0
    colours = needed if alpha else samples
    return Colour(photometric, bits, colours, alpha, None, samples, dtype, colours)

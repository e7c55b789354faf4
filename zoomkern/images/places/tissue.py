"""Where a slide shows tissue: colour above Otsu's threshold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from zoomkern import checks

#: Colour beyond which what has more green than red is ink: no common stain but trichromes reaches it.
_INK = 90
_LEVELS = 256


def tissue_mask(overview: Tensor, *, least: float = 0.05, most: float = 0.16, drop_ink: bool = True) -> Tensor:
    """Where a low level of a slide shows tissue: pixels whose colour exceeds Otsu's threshold.

    The colour of a pixel is the difference between its largest and its smallest channel: 0 for white glass and for
    black borders, gray shadows and black pen alike. Saturation, which divides it by the largest channel, is noise where
    the picture is dark, and optical density takes black borders for the densest tissue.

    Otsu divides any picture in two, be it strong from pale stain, or glass from glass. So what lies below the threshold
    is divided again as long as the two parts' mean colours differ by ``least``, and the last such threshold counts, up
    to ``most``; where there is none it is ``most``. Pale tissue beside a clot of blood is found, a blank slide has no
    tissue, and a crop full of tissue is all tissue.

    Args:
        overview: ``[3, h, w]``, RGB: uint8, uint16, or floating point in [0, 1].
        least: by how much tissue must differ from glass, as a part of the full scale, above 0.
        most: colour that is tissue whatever else the slide shows, as a part of the full scale.
        drop_ink: leave out green and blue ink, which are far from every stain but the greens and blues of trichromes
            and Alcian blue; pass False for those. Red ink looks like blood: cut it out by
            :func:`~zoomkern.images.places.polygons.polygon_mask`.

    Returns:
        bool ``[h, w]``, True for tissue; all False, with a warning, where there is none.

    Memory:
        About 20 bytes per pixel of the overview.

    Raises:
        ValueError: not three channels, floats outside [0, 1], or limits that are no parts in order.
        TypeError: another pixel type.

    Source:
        Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979.

    Example:
        >>> mask = tissue_mask(scaled(pyramid, (512, 512)))
        >>> drawn = zoomkern.sample_patches([pyramid], logits, 10, 256, mask=cells_with(mask, (32, 32))[None])
    """
    pixels = _eight_bits(overview)
    if not 0 < least <= most <= 1:
        raise ValueError(f"least and most must be parts in order, 0 < least <= most <= 1; got {least} and {most}.")
    colour = pixels.amax(0) - pixels.amin(0)
    is_ink = (pixels[1] > pixels[0]) & (colour > _INK) if drop_ink else torch.zeros_like(colour, dtype=torch.bool)
    counts = torch.bincount(colour[~is_ink], minlength=_LEVELS).tolist()
    full = _LEVELS - 1
    threshold = most * full
    level, contrast = otsu(counts)
    while contrast >= least * full:
        threshold = min(level, most * full)
        level, contrast = otsu(counts[: level + 1])
    mask = (colour > threshold) & ~is_ink
    if not mask.any():
        warnings.warn(
            "overview shows no tissue, so the mask is empty: the slide is blank, or paler than least and most allow. "
            "Look at it, lower them, or pass a mask of your own.",
            stacklevel=2,
        )
    return mask


def otsu(counts: Sequence[int]) -> tuple[int, float]:
    """The level that best divides a histogram in two, levels up to it from those above, and how far apart they are.

    With ``n`` items of mean ``m`` below and ``n'`` of mean ``m'`` above it is the first level with the largest
    ``n n' (m' - m)^2``, in exact arithmetic.

    Args:
        counts: number of items at each level from 0; at most some thousand levels.

    Returns:
        The level, and ``m' - m``; the highest level and 0 where all items are at one level.
    """
    total, moment = sum(counts), sum(level * count for level, count in enumerate(counts))
    below = moment_below = 0
    best, threshold, contrast = Fraction(0), len(counts) - 1, 0.0
    for level, count in enumerate(counts):
        below += count
        moment_below += level * count
        if not 0 < below < total:
            continue
        apart = below * moment - total * moment_below  # n n' (m' - m)
        between = Fraction(apart * apart, below * (total - below))
        if between > best:
            best, threshold, contrast = between, level, apart / (below * (total - below))
    return threshold, contrast


def _eight_bits(overview: Tensor) -> Tensor:
    """``[3, h, w]`` int32 from 0 to 255."""
    checks.tensor("overview", overview, "a tensor [3, h, w]")
    if overview.ndim != 3 or overview.shape[0] != 3 or overview.numel() == 0:
        raise ValueError(
            f"overview must be [3, h, w], RGB with at least one pixel; got {list(overview.shape)}. "
            "Of RGBA pass overview[:3]; gray pictures have no colour to tell tissue by."
        )
    if overview.dtype == torch.uint8:
        return overview.int()
    if overview.dtype == torch.uint16:
        return (overview.int() + 128) // 257  # 65535 is 255
    checks.dtype("overview", overview.dtype, (torch.uint8, torch.uint16, *checks.FLOATS))
    if not ((overview >= 0) & (overview <= 1)).all():
        low, high = float(overview.min()), float(overview.max())
        raise ValueError(f"overview must be in [0, 1] where it is floating point; got {low} to {high}. Divide it.")
    return (overview.float() * 255).round().int()

"""Places at random, the same for the same seed on every machine."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.places.grid import MOST_PLACES, last_place
from zoomkern.images.places.shares import enough, share_at
from zoomkern.reference.random import MASK32, multiply_high, philox

#: The next pair of streams after those of zoomkern.reference.random and of perturbed top-k.
_STREAM = 8
_TRIES_AT_A_TIME = 1 << 16
#: Tries beyond which a mask is taken to leave no room: so many, and as many more for every place.
_TRIES, _TRIES_PER_PLACE = 1 << 21, 1 << 6


def random_places(
    image_size: tuple[int, int],
    patch_size: int | tuple[int, int],
    count: int,
    seed: int,
    *,
    mask: Tensor | None = None,
    minimum: float = 0.1,
    edge: str = "inside",
) -> Tensor:
    """Independent places, uniform over all of which the mask covers enough; one may come twice.

    The first places are those of a smaller ``count``. Place ``i`` of all that are tried is a function of the seed and
    ``i`` (Philox4x32-10, counter ``(i low, i high, 0, 8)``: two words each for y and x); those that the mask leaves out
    are passed over.

    Args:
        image_size: ``(H, W)`` of the level that is read.
        patch_size: ``(height, width)`` in pixels of that level, or one int; with ``step`` what the patch spans.
        count: how many places.
        seed: from 0 to 2^63 - 1.
        mask: bool ``[h, w]`` of the whole image at any size.
        minimum: share of a patch that the mask must cover; with 0 any.
        edge: ``inside`` keeps whole patches inside the image; with ``cover`` a patch larger than the image hangs over.

    Returns:
        int64 ``[count, 2]``, top-left ``(y, x)``, as of :func:`grid_places`.

    Memory:
        16 bytes per place, some MiB, and 8 bytes per pixel of the mask.

    Raises:
        ValueError: no patch fits, or the mask covers (nearly) none enough.

    Example:
        >>> places = random_places((1000, 1000), 64, count=100, seed=0)
        >>> patches = zoomkern.gather_patches([image], places[None], 64)
    """
    size, patch = checks.pair("image_size", image_size), checks.pair("patch_size", patch_size)
    checks.integer("count", count, 1, MOST_PLACES)
    key = torch.tensor(checks.integer("seed", seed, 0, (1 << 63) - 1))
    first, last = (0, 0), last_place(size, patch, edge)
    if mask is not None:
        key = key.to(mask.device)
        first, last = _touching(mask, size, patch, last)
    most_tries = count if mask is None else _TRIES + _TRIES_PER_PLACE * count
    found: list[Tensor] = []
    number = 0
    for tried in range(0, most_tries, _TRIES_AT_A_TIME):
        places = _tries(tried, min(most_tries - tried, _TRIES_AT_A_TIME), key, first, last)
        if mask is not None:
            places = places[enough(share_at(mask, places, patch, size), minimum)]
        found.append(places)
        number += len(places)
        if number >= count:
            return torch.cat(found)[:count]
    raise ValueError(
        f"mask must cover {minimum:.3g} of a patch of {patch} in many places; {most_tries} tries found {number} of "
        f"{count}. Lower minimum=, look at the mask (True is where one may look), or take grid_places with a small "
        "stride."
    )


def _tries(start: int, number: int, seed: Tensor, first: tuple[int, int], last: tuple[int, int]) -> Tensor:
    """``[number, 2]`` places from ``first`` to ``last``, uniform."""
    place = torch.arange(start, start + number, device=seed.device)
    zero = torch.zeros_like(place)
    words = philox((place & MASK32, place >> 32, zero, zero + _STREAM), seed)
    axes = [
        low + multiply_high(words[2 * axis], words[2 * axis + 1], zero + (high - low + 1))
        for axis, (low, high) in enumerate(zip(first, last, strict=True))
    ]
    return torch.stack(axes, dim=-1)


def _touching(
    mask: Tensor, size: tuple[int, int], patch: tuple[int, int], last: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and the last place whose patch may touch the mask: few tries are lost where tissue is a small part."""
    checks.tensor("mask", mask, "a bool tensor [h, w]")
    checks.dtype("mask", mask.dtype, (torch.bool,))
    if mask.ndim != 2 or not mask.any():
        raise ValueError(
            f"mask must be [h, w] and True somewhere; got {list(mask.shape)}, {int(mask.sum())} of it True. "
            "Pass another (a blank slide? True is where one may look), or leave the image out."
        )
    begin, end = [], []
    for axis in (0, 1):
        own = mask.any(1 - axis).nonzero()
        pixels, cells = size[axis], mask.shape[axis]
        begin.append(min(max(int(own[0]) * pixels // cells - patch[axis] + 1, 0), last[axis]))
        end.append(min(-(-(int(own[-1]) + 1) * pixels // cells) - 1, last[axis]))
    return (begin[0], begin[1]), (end[0], end[1])

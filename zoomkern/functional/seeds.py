"""Seeds of the draws inside draws, from one seed per image."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern.functional.draws import check_seed


def derived_seed(seed: Tensor, number: Tensor) -> Tensor:
    """Output ``number`` of the SplitMix64 generator that starts at ``seed``: an integer mix, stable across versions.

    With all arithmetic modulo 2^64 and logical shifts, ``z = seed + number * 0x9E3779B97F4A7C15``, then
    ``z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9``, ``z = (z ^ z >> 27) * 0x94D049BB133111EB``, ``z ^ z >> 31``.

    Args:
        seed: int64.
        number: int64 that broadcasts against it.

    Returns:
        int64 of the broadcast shape; for one seed all different.

    Source:
        Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """

    def folded(bits: Tensor, shift: int) -> Tensor:
        return bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))

    def signed(constant: int) -> int:
        return constant - (1 << 64)

    z = seed + number * signed(0x9E3779B97F4A7C15)
    z = folded(z, 30) * signed(0xBF58476D1CE4E5B9)
    return folded(folded(z, 27) * signed(0x94D049BB133111EB), 31)


def image_seeds(seed: int | Tensor | None, batch: int, device: torch.device) -> Tensor:
    """A seed per image, int64 ``[B]``: the given ones, or those derived from a scalar and ``row + 1``."""
    start = check_seed(seed, None, batch, device)
    return start if start.ndim else derived_seed(start, torch.arange(1, batch + 1, device=device))

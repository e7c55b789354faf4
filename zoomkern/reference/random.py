"""Philox4x32-10 on int64 tensors: which random word belongs to which item.

The contract: key = the 64-bit seed, counter = (item >> 2 low, item >> 2 high, row, stream), word = item & 3.
A scalar seed serves every row of a batch, which the row number tells apart; with a seed per row the row number is 0.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

#: Streams come in pairs: the upper and the lower word of one 64-bit variate.
RACE_STREAM = 0
THRESHOLD_STREAM = 2
REPLACEMENT_STREAM = 4


def _high_low(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    product = a * multiplier  # wraps modulo 2^64, which keeps both halves right
    return (product >> 32) & MASK32, product & MASK32


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words, as int64 in [0, 2^32), for each counter (broadcast against ``seed``)."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK32, (seed >> 32) & MASK32
    for _ in range(ROUNDS):
        high0, low0 = _high_low(c0, MULTIPLIERS[0])
        high1, low1 = _high_low(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK32, (k1 + KEY_STEPS[1]) & MASK32
    return c0, c1, c2, c3


def words(seed: Tensor, items: int, row: int, stream: int, device: torch.device) -> Tensor:
    """``[items]`` random words of one row, as int64 in [0, 2^32)."""
    group = torch.arange((items + 3) // 4, dtype=torch.int64, device=device)
    zero = torch.zeros_like(group)
    counter = (group & MASK32, group >> 32, zero + row, zero + stream)
    return torch.stack(philox(counter, seed), dim=-1).flatten()[:items]


def multiply_high(high: Tensor, low: Tensor, bound: Tensor) -> Tensor:
    """``floor(bits * bound / 2^64)``: 64 random bits to an integer in [0, bound), for ``bound < 2^63``."""
    bound_high, bound_low = bound >> 32, bound & MASK32
    p00, p01, p10, p11 = low * bound_low, low * bound_high, high * bound_low, high * bound_high
    middle = ((p00 >> 32) & MASK32) + (p01 & MASK32) + (p10 & MASK32)
    return p11 + ((p01 >> 32) & MASK32) + ((p10 >> 32) & MASK32) + (middle >> 32)

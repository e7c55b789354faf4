"""Philox4x32-10: which random word belongs to which item. The contract is told in ``zoomkern/reference/random.py``."""

from __future__ import annotations

import triton
import triton.language as tl

MULTIPLIER0 = tl.constexpr(0xD2511F53)
MULTIPLIER1 = tl.constexpr(0xCD9E8D57)
KEY_STEP0 = tl.constexpr(0x9E3779B9)
KEY_STEP1 = tl.constexpr(0xBB67AE85)
ROUNDS = tl.constexpr(10)

RACE_STREAM = tl.constexpr(0)
THRESHOLD_STREAM = tl.constexpr(2)
REPLACEMENT_STREAM = tl.constexpr(4)


@triton.jit
def philox(seed, group, row, stream):
    """Four uint32 words for each ``group`` (int64), under one int64 ``seed``."""
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    c0, c1 = group.to(tl.uint32), (group >> 32).to(tl.uint32)
    c2, c3 = tl.zeros_like(c0) + row.to(tl.uint32), tl.zeros_like(c0) + stream
    for _ in tl.static_range(ROUNDS):
        high0, low0 = tl.umulhi(c0, MULTIPLIER0), c0 * MULTIPLIER0
        high1, low1 = tl.umulhi(c2, MULTIPLIER1), c2 * MULTIPLIER1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + KEY_STEP0, k1 + KEY_STEP1
    return c0, c1, c2, c3


@triton.jit
def words(seed, first, row, stream, COUNT: tl.constexpr):
    """``[COUNT]`` uint32 words of the items from ``first`` on; both are multiples of 4."""
    w0, w1, w2, w3 = philox(seed, first // 4 + tl.arange(0, COUNT // 4).to(tl.int64), row, stream)
    return tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))


@triton.jit
def row_key(seed, row, ROW_SEEDS: tl.constexpr):
    """The int64 seed of a row and its row number: a seed per row, or one for all rows, which the number tells apart."""
    if ROW_SEEDS:
        return tl.load(seed + row), row * 0
    return tl.load(seed), row

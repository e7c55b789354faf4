"""exp and log from float64 multiplications and additions alone, so that every backend computes the same bits.

The coefficients stand a second time in ``csrc/core/exact.hpp``; a test compares both to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _hex(words: str) -> list[float]:
    return [float.fromhex(word) for word in words.split()]


LOG2E = float.fromhex("0x1.71547652b82fep+0")
LN2 = float.fromhex("0x1.62e42fefa39efp-1")
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 32 bits, so that n * LN2_HIGH is exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD

#: exp(r) on |r| <= ln(2) / 2: the Taylor series, relative error below 1e-17.
EXP = _hex(
    "0x1.0000000000000p+0 0x1.0000000000000p+0 0x1.0000000000000p-1 0x1.5555555555555p-3 0x1.5555555555555p-5 "
    "0x1.1111111111111p-7 0x1.6c16c16c16c17p-10 0x1.a01a01a01a01ap-13 0x1.a01a01a01a01ap-16 0x1.71de3a556c734p-19 "
    "0x1.27e4fb7789f5cp-22 0x1.ae64567f544e4p-26 0x1.1eed8eff8d898p-29 0x1.6124613a86d09p-33"
)
#: log1p(f) / f on [sqrt(1/2) - 1, sqrt(2) - 1]: Chebyshev interpolation, relative error below 3e-16.
LOG = _hex(
    "0x1.0000000000000p+0 -0x1.0000000000004p-1 0x1.55555555554ebp-2 -0x1.fffffffffdbffp-3 0x1.99999999a6b5ap-3 "
    "-0x1.55555556f451cp-3 0x1.2492492056ea3p-3 -0x1.fffffeee219efp-4 0x1.c71c729aa05edp-4 -0x1.9999ca853bcdcp-4 "
    "0x1.745d2f1d9ad65p-4 -0x1.555045ff6ea70p-4 0x1.3b0c419f8a2f5p-4 -0x1.24dfeebfc6a64p-4 0x1.11c9ecec742c1p-4 "
    "-0x1.fb16f6a9a7b44p-5 0x1.d0371db232745p-5 -0x1.d3914dbd3ebe5p-5 0x1.0b4d03bd1f9f7p-4 -0x1.e54e6e031fa28p-5 "
    "0x1.a1a07063e1f57p-6"
)
#: -log1p(-u) / u for u below 2^-10, relative error below 2^-62.
LOG1P = [1.0, 0.5, float.fromhex("0x1.5555555555555p-2"), 0.25, float.fromhex("0x1.999999999999ap-3")]
LOG1P += [float.fromhex("0x1.5555555555555p-3")]
#: Below this exp is taken to be zero.
EXP_MIN = -700.0


def _horner(coefficients: list[float], x: Tensor) -> Tensor:
    result = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = result * x + c
    return result


def exp(x: Tensor) -> Tensor:
    """``exp(x)`` for float64 ``x <= 0``; 0 below :data:`EXP_MIN`."""
    clamped = x.clamp(min=EXP_MIN)
    n = torch.round(clamped * LOG2E)
    r = (clamped - n * LN2_HIGH) - n * LN2_LOW
    power = ((n.to(torch.int64) + 1023) << 52).view(torch.float64)
    return torch.where(x < EXP_MIN, 0.0, _horner(EXP, r) * power)


def log(x: Tensor) -> Tensor:
    """``log(x)`` for positive, normal float64 ``x``."""
    bits = x.view(torch.int64)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    f = (bits - (exponent << 52)).view(torch.float64) - 1.0
    return exponent.to(torch.float64) * LN2 + f * _horner(LOG, f)


def log_exponential(high: Tensor, low: Tensor) -> Tensor:
    """Logarithm of a standard exponential variate, from 64 random bits.

    With ``u = (bits + 1/2) / 2^64`` the variate is ``-log(1 - u)``: fine resolution where it is small, which is where
    the winners of a race are.

    Args:
        high: int64 in [0, 2^32), the upper word.
        low: int64 in [0, 2^32), the lower word.
    """
    u = high.to(torch.float64) * 2.0**-32 + (low.to(torch.float64) + 0.5) * 2.0**-64
    rest = (0xFFFFFFFF - high).to(torch.float64) * 2.0**-32 + ((0xFFFFFFFF - low).to(torch.float64) + 0.5) * 2.0**-64
    return log(torch.where(u < 2.0**-10, u * _horner(LOG1P, u), -log(rest)))

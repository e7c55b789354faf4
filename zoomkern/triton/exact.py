"""exp and log from float64 multiplications and additions alone: the bits of ``zoomkern/reference/exact.py``.

Every kernel that calls these is launched with ``enable_fp_fusion=False``: a fused operation changes the result.
"""

from __future__ import annotations

import triton
import triton.language as tl


def _hex(words: str) -> tl.constexpr:
    return tl.constexpr(tuple(float.fromhex(word) for word in words.split()))


LOG2E = tl.constexpr(float.fromhex("0x1.71547652b82fep+0"))
LN2 = tl.constexpr(float.fromhex("0x1.62e42fefa39efp-1"))
LN2_HIGH = tl.constexpr(float.fromhex("0x1.62e42fee00000p-1"))
LN2_LOW = tl.constexpr(float.fromhex("0x1.a39ef35793c76p-33"))
SQRT_HALF_BITS = tl.constexpr(0x3FE6A09E667F3BCD)
EXP = _hex(
    "0x1.0000000000000p+0 0x1.0000000000000p+0 0x1.0000000000000p-1 0x1.5555555555555p-3 0x1.5555555555555p-5 "
    "0x1.1111111111111p-7 0x1.6c16c16c16c17p-10 0x1.a01a01a01a01ap-13 0x1.a01a01a01a01ap-16 0x1.71de3a556c734p-19 "
    "0x1.27e4fb7789f5cp-22 0x1.ae64567f544e4p-26 0x1.1eed8eff8d898p-29 0x1.6124613a86d09p-33"
)
LOG = _hex(
    "0x1.0000000000000p+0 -0x1.0000000000004p-1 0x1.55555555554ebp-2 -0x1.fffffffffdbffp-3 0x1.99999999a6b5ap-3 "
    "-0x1.55555556f451cp-3 0x1.2492492056ea3p-3 -0x1.fffffeee219efp-4 0x1.c71c729aa05edp-4 -0x1.9999ca853bcdcp-4 "
    "0x1.745d2f1d9ad65p-4 -0x1.555045ff6ea70p-4 0x1.3b0c419f8a2f5p-4 -0x1.24dfeebfc6a64p-4 0x1.11c9ecec742c1p-4 "
    "-0x1.fb16f6a9a7b44p-5 0x1.d0371db232745p-5 -0x1.d3914dbd3ebe5p-5 0x1.0b4d03bd1f9f7p-4 -0x1.e54e6e031fa28p-5 "
    "0x1.a1a07063e1f57p-6"
)
LOG1P = _hex(
    "0x1.0000000000000p+0 0x1.0000000000000p-1 0x1.5555555555555p-2 0x1.0000000000000p-2 0x1.999999999999ap-3 "
    "0x1.5555555555555p-3"
)
EXP_DEGREE = tl.constexpr(13)
LOG_DEGREE = tl.constexpr(20)
LOG1P_DEGREE = tl.constexpr(5)
EXP_MIN = tl.constexpr(-700.0)
#: Adding it rounds a double of magnitude below 2^51 to an integer, half to even, which the low bits of the sum hold.
TO_BITS = tl.constexpr(float.fromhex("0x1.8p52"))


@triton.jit
def _horner(c: tl.constexpr, degree: tl.constexpr, x):
    result = tl.full(x.shape, c[degree], tl.float64)
    for i in tl.static_range(degree - 1, -1, -1):
        result = result * x + c[i]
    return result


@triton.jit
def exp(x):
    """``exp(x)`` for float64 ``x`` up to 700; 0 below ``EXP_MIN``."""
    clamped = tl.where(x < EXP_MIN, EXP_MIN, x)
    shifted = clamped * LOG2E + TO_BITS
    n = shifted - TO_BITS
    r = (clamped - n * LN2_HIGH) - n * LN2_LOW
    power = ((shifted.to(tl.int64, bitcast=True) + 1023) << 52).to(tl.float64, bitcast=True)
    return tl.where(x < EXP_MIN, 0.0, _horner(EXP, EXP_DEGREE, r) * power)


@triton.jit
def log(x):
    """``log(x)`` for positive, normal float64 ``x``."""
    bits = x.to(tl.int64, bitcast=True)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    f = (bits - (exponent << 52)).to(tl.float64, bitcast=True) - 1.0
    return exponent.to(tl.float64) * LN2 + f * _horner(LOG, LOG_DEGREE, f)


@triton.jit
def log_exponential(high, low):
    """Logarithm of a standard exponential variate from two uint32 words, the upper first."""
    u = high.to(tl.float64) * 2.0**-32 + (low.to(tl.float64) + 0.5) * 2.0**-64
    rest = (high ^ 0xFFFFFFFF).to(tl.float64) * 2.0**-32 + ((low ^ 0xFFFFFFFF).to(tl.float64) + 0.5) * 2.0**-64
    return log(tl.where(u < 2.0**-10, u * _horner(LOG1P, LOG1P_DEGREE, u), -log(rest)))

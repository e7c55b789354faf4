// exp and log from float64 multiplications and additions alone: the bits of zoomkern/reference/exact.py, where the
// choice of polynomials is told. Compile with -ffp-contract=off (--fmad=false): a fused operation changes the result.
#pragma once

#include "core/target.hpp"

namespace zoomkern::exact {

constexpr double kExpMin = -700.0;
// Adding it rounds a small double to an integer, which then stands in the low bits of the sum.
constexpr double kToBits = 0x1.8p52;

// c + c1 x + c2 x^2 + ...; the coefficients are arguments because a GPU cannot read the host's arrays.
template <class... C>
ZK_INLINE double horner(double x, double c, C... higher) {
  if constexpr (sizeof...(higher) == 0)
    return c;
  else
    return horner(x, higher...) * x + c;
}

ZK_INLINE double exp_polynomial(double r) {
  return horner(r, 0x1.0000000000000p+0, 0x1.0000000000000p+0, 0x1.0000000000000p-1, 0x1.5555555555555p-3,
                0x1.5555555555555p-5, 0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10, 0x1.a01a01a01a01ap-13,
                0x1.a01a01a01a01ap-16, 0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22, 0x1.ae64567f544e4p-26,
                0x1.1eed8eff8d898p-29, 0x1.6124613a86d09p-33);
}
ZK_INLINE double log_polynomial(double f) {
  return horner(f, 0x1.0000000000000p+0, -0x1.0000000000004p-1, 0x1.55555555554ebp-2, -0x1.fffffffffdbffp-3,
                0x1.99999999a6b5ap-3, -0x1.55555556f451cp-3, 0x1.2492492056ea3p-3, -0x1.fffffeee219efp-4,
                0x1.c71c729aa05edp-4, -0x1.9999ca853bcdcp-4, 0x1.745d2f1d9ad65p-4, -0x1.555045ff6ea70p-4,
                0x1.3b0c419f8a2f5p-4, -0x1.24dfeebfc6a64p-4, 0x1.11c9ecec742c1p-4, -0x1.fb16f6a9a7b44p-5,
                0x1.d0371db232745p-5, -0x1.d3914dbd3ebe5p-5, 0x1.0b4d03bd1f9f7p-4, -0x1.e54e6e031fa28p-5,
                0x1.a1a07063e1f57p-6);
}
ZK_INLINE double log1p_polynomial(double u) {
  return horner(u, 1.0, 0.5, 0x1.5555555555555p-2, 0.25, 0x1.999999999999ap-3, 0x1.5555555555555p-3);
}

// exp(x) for x <= 700; 0 below kExpMin.
ZK_INLINE double exp(double x) {
  const double clamped = x < kExpMin ? kExpMin : x;
  const double shifted = clamped * 0x1.71547652b82fep+0 + kToBits, n = shifted - kToBits;
  const double r = (clamped - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
  const uint64_t exponent = bit_cast<uint64_t>(shifted) + 1023;
  const double value = exp_polynomial(r) * bit_cast<double>(exponent << 52);
  return x < kExpMin ? 0.0 : value;
}

// 1 - exp(-x) for x >= 0; near 0 its Taylor series, relative error below 1e-15.
ZK_INLINE double one_minus_exp(double x) {
  const double series = horner(x, 1.0, -1.0 / 2, 1.0 / 6, -1.0 / 24, 1.0 / 120, -1.0 / 720, 1.0 / 5040, -1.0 / 40320,
                               1.0 / 362880, -1.0 / 3628800, 1.0 / 39916800);
  return x < 0.25 ? x * series : 1.0 - exp(-x);
}

// log(x) for positive, normal x.
ZK_INLINE double log(double x) {
  const uint64_t bits = bit_cast<uint64_t>(x), half = 0x3FE6A09E667F3BCD, one = 0x3FF0000000000000;
  const uint64_t biased = (bits + (one - half)) >> 52;  // the exponent of x / sqrt(1/2), plus 1023
  const double f = bit_cast<double>(bits - ((biased - 1023) << 52)) - 1.0;
  const double e = bit_cast<double>(bit_cast<uint64_t>(0x1p52) | biased) - (0x1p52 + 1023.0);
  return e * 0x1.62e42fefa39efp-1 + f * log_polynomial(f);
}

// A 32-bit word as a double, by a way that vectorises everywhere.
ZK_INLINE double from_word(uint32_t word) { return bit_cast<double>(bit_cast<uint64_t>(0x1p52) | word) - 0x1p52; }

// log of a standard exponential variate from 64 random bits.
ZK_INLINE double log_exponential(uint32_t high, uint32_t low) {
  const double u = from_word(high) * 0x1p-32 + (from_word(low) + 0.5) * 0x1p-64;
  const double rest = from_word(~high) * 0x1p-32 + (from_word(~low) + 0.5) * 0x1p-64;
  const double small = u * log1p_polynomial(u), large = -log(rest);
  return log(u < 0x1p-10 ? small : large);
}

}  // namespace zoomkern::exact

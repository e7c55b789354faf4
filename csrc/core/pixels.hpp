// Pixel types and their conversion to float.
#pragma once

#include "core/target.hpp"

namespace zoomkern {

// In the order of zoomkern.typing.PIXEL_DTYPES.
enum Dtype : int64_t { kUint8, kUint16, kFloat16, kBfloat16, kFloat32, kFloat64, kDtypes };

ZK_INLINE int64_t dtype_bytes(int64_t dtype) {
  return dtype == kUint8 ? 1 : dtype <= kBfloat16 ? 2 : dtype == kFloat32 ? 4 : 8;
}

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};
constexpr bool is_half(Half) { return true; }
constexpr bool is_half(Bfloat) { return false; }

ZK_INLINE float to_float(uint8_t x) { return static_cast<float>(static_cast<int32_t>(x)); }
ZK_INLINE float to_float(uint16_t x) { return static_cast<float>(static_cast<int32_t>(x)); }
ZK_INLINE float to_float(float x) { return x; }
ZK_INLINE double to_float(double x) { return x; }
ZK_INLINE float to_float(Bfloat x) { return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
ZK_INLINE float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7FFFu;
  // Scaling by 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal.
  const float finite = bit_cast<float>(magnitude << 13) * 0x1p112f;
  const uint32_t special = 0x7F800000u | (magnitude << 13);
  return bit_cast<float>(sign | (magnitude >= 0x7C00u ? special : bit_cast<uint32_t>(finite)));
}

ZK_INLINE Bfloat to_bfloat(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(x == x ? rounded : 0x7FC0u)};
}

ZK_INLINE Half to_half(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 1/2 aligns a subnormal's last place with that of the sum, which the hardware rounds to even.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477FF000u ? 0x7C00u : half;
  half = magnitude > 0x7F800000u ? 0x7E00u : half;
  return {static_cast<uint16_t>(sign | half)};
}

template <class To, class From>
ZK_INLINE To from_float(From x) {
  if constexpr (sizeof(To) == 2) {
    if constexpr (is_half(To{}))
      return to_half(static_cast<float>(x));
    else
      return to_bfloat(static_cast<float>(x));
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace zoomkern

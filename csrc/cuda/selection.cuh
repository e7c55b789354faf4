// Sorting, and finding the n-th largest of many, by one team.
#pragma once

#include <cstdint>

#include "core/target.hpp"
#include "cuda/team.cuh"

namespace zoomkern::cuda {

// An integer that is ordered as x is; both zeros are the same.
__device__ __forceinline__ uint64_t ordered(double x) {
  const uint64_t bits = bit_cast<uint64_t>(x + 0.0), sign = uint64_t{1} << 63;
  return bits & sign ? ~bits : bits | sign;
}

// The number that is ordered so.
__device__ __forceinline__ double number_of(uint64_t order) {
  const uint64_t sign = uint64_t{1} << 63;
  return bit_cast<double>(order & sign ? order ^ sign : ~order);
}

struct Runner {
  uint64_t key;
  int64_t item;
};
struct Ahead {
  __device__ __forceinline__ bool operator()(const Runner& a, const Runner& b) const {
    return a.key != b.key ? a.key > b.key : a.item < b.item;
  }
};
struct Less {
  __device__ __forceinline__ bool operator()(int64_t a, int64_t b) const { return a < b; }
};

// A bitonic network whose comparators all point upwards, so that what is missing to a power of two may count as sorted
// at the end. What others wrote must be visible before; what is sorted is visible afterwards.
template <class Team, class V, class F>
__device__ void sort(const Team& team, V* values, int64_t count, F before) {
  for (int64_t size = 2; size < 2 * count; size *= 2) {
    const int64_t pairs = (count + size - 1) / size * (size / 2);
    for (int64_t half = size / 2; half > 0; half /= 2) {
      for (int64_t p = team.rank(); p < pairs; p += Team::kSize) {
        const int64_t low = 2 * (p & ~(half - 1)) | (p & (half - 1));
        const int64_t high = half == size / 2 ? low ^ (size - 1) : low + half;
        if (high < count && before(values[high], values[low])) {
          const V value = values[low];
          values[low] = values[high];
          values[high] = value;
        }
      }
      team.sync();
    }
  }
}

constexpr int kDigits = 256;
constexpr size_t kHistogramBytes = kDigits * sizeof(unsigned long long);

// Values of at least `value` are the wanted; but if `ties` is not 0, only so many of those equal to it are.
struct Nth {
  uint64_t value;
  int64_t ties;
};

// The `wanted` largest of what visit(f) hands to f, thread by thread; there must be so many. Values are visited once
// for each digit, from the highest, until one digit's values are all wanted or all known.
template <class Team, class V>
__device__ Nth nth_largest(const Team& team, unsigned long long* histogram, int64_t wanted, V visit) {
  const WarpTeam warp(nullptr);
  constexpr int per_lane = kDigits / kWarp;
  uint64_t prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    team.sync();
    for (int i = team.rank(); i < kDigits; i += Team::kSize) histogram[i] = 0;
    team.sync();
    visit([&](uint64_t value) {
      if (shift == 56 || value >> (shift + 8) == prefix) atomicAdd(&histogram[value >> shift & (kDigits - 1)], 1ull);
    });
    team.sync();
    // Lanes count from the highest digit down.
    const int top = kDigits - 1 - per_lane * warp.rank();
    int64_t own = 0, all;
    for (int i = 0; i < per_lane; ++i) own += static_cast<int64_t>(histogram[top - i]);
    const int64_t above = warp.sum_before(own, all);
    const int lane = __ffs(__ballot_sync(kAllLanes, above < wanted && wanted <= above + own)) - 1;
    int digit = kDigits - 1 - per_lane * lane;
    wanted -= warp.from(above, lane);
    while (wanted > static_cast<int64_t>(histogram[digit])) wanted -= static_cast<int64_t>(histogram[digit--]);
    prefix = prefix << 8 | static_cast<uint64_t>(digit);
    if (wanted == static_cast<int64_t>(histogram[digit])) return {prefix << shift, 0};
  }
  return {prefix, wanted};
}

}  // namespace zoomkern::cuda

// Scores sorted into bins by how far below the maximum they are, and counted.
#pragma once

#include <limits>

#include "cuda/rows.cuh"
#include "cuda/selection.cuh"

namespace zoomkern::cuda {

// Bins are a step wide near the maximum, and again around `base`, where most of a row is: there is what decides. The
// kZone bins between the two share the gap evenly. What is deeper has bins a 16th to a 24th as wide as they are deep,
// and the deepest of all share the last.
struct Bins {
  static constexpr int kCount = 1024, kZone = 256;
  static constexpr int kEven = 3 * kZone;
  static constexpr double kPerNat = 8;  // steps: weights in a bin are equal to 13 %
  static constexpr int kShift = 19;     // of a float: leaves 16 values an octave
  static constexpr size_t kBytes = kCount * sizeof(unsigned);

  double top, rate;  // the maximum; steps per unit of score, 0 where no bins are needed
  double stretch;    // steps to a bin of the gap

  static __device__ __forceinline__ Bins around(double top, double base, double rate) {
    return {top, rate, Max()(1.0, ((top - base) * rate - 1.5 * kZone) / kZone)};
  }

  template <class R>
  __device__ __forceinline__ int of(R score) const {
    float steps = static_cast<float>((static_cast<R>(top) - score) * static_cast<R>(rate));
    const float gap = static_cast<float>(stretch), behind = steps - kZone;
    if (behind >= 0) steps = behind < kZone * gap ? kZone + behind / gap : behind - kZone * gap + 2 * kZone;
    if (steps < kEven) return static_cast<int>(steps);
    return Min()(kCount - 1, kEven + (bit_cast<int>(steps) >> kShift) - first_deep());
  }

  // No score of a bin is further below the maximum.
  __device__ __forceinline__ double depth(int bin) const {
    constexpr double margin = 1 + 0x1p-18;  // for the roundings of `of`
    if (bin == kCount - 1) return std::numeric_limits<double>::infinity();
    const int end = bin + 1;
    const double steps = end <= kEven ? end : bit_cast<float>((end - kEven + first_deep()) << kShift);
    const double in_gap = Min()(Max()(steps - kZone, 0.0), static_cast<double>(kZone));
    return (steps + in_gap * (stretch - 1)) / rate * margin;
  }

  static __device__ __forceinline__ int first_deep() { return bit_cast<int>(static_cast<float>(kEven)) >> kShift; }
};

// How many parts have items that may be drawn.
template <class Team>
__device__ int64_t count_filled(const Team& team, const Part* parts, int64_t count) {
  int64_t filled = 0;
  for (int64_t i = team.rank(); i < count; i += Team::kSize) filled += parts[i].drawable > 0;
  return team.reduce(filled, Sum());
}

// The highest score that the maxima of `wanted` such parts reach.
template <class Team>
__device__ double reached_by(const Team& team, unsigned long long* histogram, const Part* parts, int64_t count,
                             int64_t wanted) {
  const Nth nth = nth_largest(team, histogram, wanted, [&](auto see) {
    for (int64_t i = team.rank(); i < count; i += Team::kSize) {
      if (parts[i].drawable > 0) see(ordered(parts[i].max));
    }
  });
  double least = std::numeric_limits<double>::infinity();
  for (int64_t i = team.rank(); i < count; i += Team::kSize) {
    if (parts[i].drawable > 0 && ordered(parts[i].max) >= nth.value) least = Min()(least, parts[i].max);
  }
  return team.reduce(least, Min());
}

}  // namespace zoomkern::cuda

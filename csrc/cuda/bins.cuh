// Scores sorted into bins by how far below the maximum they are, and counted.
#pragma once

#include <limits>

#include "cuda/rows.cuh"

namespace zoomkern::cuda {

// Bins are one step wide for kEven steps below `top`, and beyond that from a 16th to a 24th as wide as they are deep:
// what counts lies near the maximum, unless scores are so wide apart that hardly two are close. All items deeper than
// that share the last bin.
struct Bins {
  static constexpr int kCount = 1024, kEven = 768;
  static constexpr int kShift = 19;  // leaves 16 values an octave
  static constexpr size_t kBytes = kCount * sizeof(unsigned);

  double top, rate;  // steps per unit of score

  template <class R>
  __device__ __forceinline__ int of(R score) const {
    const float steps = static_cast<float>((static_cast<R>(top) - score) * static_cast<R>(rate));
    if (steps < kEven) return static_cast<int>(steps);
    return Min()(kCount - 1, kEven + (bit_cast<int>(steps) >> kShift) - first_octave());
  }

  // No score of a bin is further below the maximum.
  __device__ __forceinline__ double depth(int bin) const {
    constexpr double margin = 1 + 0x1p-20;  // for the roundings of `of`
    if (bin == kCount - 1) return std::numeric_limits<double>::infinity();
    const float steps =
        bin < kEven ? static_cast<float>(bin + 1) : bit_cast<float>((bin + 1 - kEven + first_octave()) << kShift);
    return static_cast<double>(steps) / rate * margin;
  }

  static __device__ __forceinline__ int first_octave() { return bit_cast<int>(static_cast<float>(kEven)) >> kShift; }
};

}  // namespace zoomkern::cuda

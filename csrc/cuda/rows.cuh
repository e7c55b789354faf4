// Rows of logits: how threads read them, and what a pass over one finds.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/exact.hpp"
#include "core/scores.hpp"
#include "cuda/team.cuh"

namespace zoomkern::cuda {

template <class T>
using Real = std::conditional_t<sizeof(T) == 8, double, float>;

template <class R>
constexpr R kLowest = -std::numeric_limits<R>::infinity();

constexpr int kFour = 4;                                    // items that share a group of random words
constexpr int kAhead = 4;                                   // groups that a thread reads before it works on the first
constexpr int64_t kSpan = int64_t{kWarp} * kFour * kAhead;  // items that a warp reads at once

template <class T>
struct alignas(sizeof(T) * kFour < 16 ? sizeof(T) * kFour : 16) Four {
  T at[kFour];
};

template <class T>
__device__ __forceinline__ bool is_aligned(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % alignof(T) == 0;
}

template <class T>
struct Row {
  const T* data;
  const bool* mask;  // null: every item may be drawn
  int64_t items;

  Row() = default;
  __device__ __forceinline__ Row(const Scores& batch, int64_t b, int64_t n)
      : data(static_cast<const T*>(batch.data) + b * n), mask(batch.mask ? batch.mask + b * n : nullptr), items(n) {}
  __device__ __forceinline__ Row(const T* kept, int64_t n) : data(kept), mask(nullptr), items(n) {}

  // -inf where nothing may be drawn.
  __device__ __forceinline__ Real<T> at(int64_t item) const {
    return mask && !mask[item] ? kLowest<Real<T>> : Real<T>{to_float(data[item])};
  }

  // Scores of the items first + g * stride + {0, 1, 2, 3}, -inf behind the row. All loads of them come before the first
  // use.
  __device__ __forceinline__ void read(int64_t first, int64_t stride, Real<T> (&score)[kAhead][kFour]) const {
    const bool aligned = is_aligned<Four<T>>(data + first) && (!mask || is_aligned<Four<bool>>(mask + first));
    if (aligned && first + (kAhead - 1) * stride + kFour <= items) {
      Four<T> raw[kAhead];
#pragma unroll
      for (int g = 0; g < kAhead; ++g) raw[g] = *reinterpret_cast<const Four<T>*>(data + first + g * stride);
#pragma unroll
      for (int g = 0; g < kAhead; ++g) {
#pragma unroll
        for (int k = 0; k < kFour; ++k) score[g][k] = to_float(raw[g].at[k]);
      }
      if (mask) {
#pragma unroll
        for (int g = 0; g < kAhead; ++g) {
          const auto drawable = *reinterpret_cast<const Four<bool>*>(mask + first + g * stride);
#pragma unroll
          for (int k = 0; k < kFour; ++k) score[g][k] = drawable.at[k] ? score[g][k] : kLowest<Real<T>>;
        }
      }
      return;
    }
#pragma unroll
    for (int g = 0; g < kAhead; ++g) {
#pragma unroll
      for (int k = 0; k < kFour; ++k) {
        const int64_t item = first + g * stride + k;
        score[g][k] = item < items ? at(item) : kLowest<Real<T>>;
      }
    }
  }

  // Calls f(item, scores of item and the next three) for the groups of [begin, end) that fall to one of `size` threads.
  // `begin` is a multiple of four, and so is `end` unless it is the row's.
  template <class F>
  __device__ __forceinline__ void sweep(int64_t begin, int64_t end, int rank, int size, F f) const {
    const int64_t stride = int64_t{kFour} * size;
    for (int64_t first = begin + kFour * rank; first < end; first += kAhead * stride) {
      Real<T> score[kAhead][kFour];
      read(first, stride, score);
#pragma unroll
      for (int g = 0; g < kAhead; ++g) {
        if (first + g * stride < end) f(first + g * stride, score[g]);
      }
    }
  }
};

__device__ __forceinline__ float exp_below_zero(float x) { return expf(x); }
__device__ __forceinline__ double exp_below_zero(double x) { return exact::exp(x); }

// What a thread, a warp or a row finds: its maximum (+inf if a NaN or +inf is among its scores), the sum of
// exp(score - max), and its drawable items.
struct Part {
  double max, sum;
  int64_t drawable;

  __device__ __forceinline__ bool wrong() const { return max > std::numeric_limits<double>::max(); }
  // Sum of exp(score - top).
  __device__ __forceinline__ double sum_below(double top) const { return drawable ? sum * exact::exp(max - top) : 0.0; }
  __device__ __forceinline__ void put_lse(double* lse) const {
    const bool known = drawable && !wrong();
    lse[0] = known ? max : 0.0;
    lse[1] = known ? exact::log(sum) : 0.0;
  }
};

// A Part under way, in the arithmetic of the scores.
template <class R>
struct Tally {
  R max = kLowest<R>, sum = 0;
  int64_t drawable = 0;

  __device__ __forceinline__ void add(const R (&score)[kFour]) {
    R top = max;
#pragma unroll
    for (int k = 0; k < kFour; ++k) {
      top = score[k] > top ? score[k] : top;
      top = score[k] <= std::numeric_limits<R>::max() ? top : -kLowest<R>;
      drawable += score[k] > kLowest<R> ? 1 : 0;
    }
    if (top == kLowest<R>) return;
    if (top > max) {
      sum *= exp_below_zero(max - top);
      max = top;
    }
#pragma unroll
    for (int k = 0; k < kFour; ++k) sum += exp_below_zero(score[k] - max);
  }

  __device__ __forceinline__ Part part() const { return {max, sum, drawable}; }
};

// The parts of a team's threads as one; the same bits in every thread.
template <class Team>
__device__ Part unite(const Team& team, const Part& own) {
  const double max = team.reduce(own.max, Max());
  const int64_t drawable = team.reduce(own.drawable, Sum());
  const double sum = team.reduce(max > kLowest<double> ? own.sum_below(max) : 0.0, Sum());
  return {max, sum, drawable};
}

// `count` parts in memory as one.
template <class Team>
__device__ Part unite(const Team& team, const Part* parts, int64_t count) {
  Part own = {kLowest<double>, 0, 0};
  for (int64_t i = team.rank(); i < count; i += Team::kSize) {
    own.max = Max()(own.max, parts[i].max);
    own.drawable += parts[i].drawable;
  }
  for (int64_t i = team.rank(); i < count; i += Team::kSize) own.sum += parts[i].sum_below(own.max);
  return unite(team, own);
}

// The first item whose score is NaN or +inf.
template <class Team, class T>
__device__ int64_t first_wrong(const Team& team, const Row<T>& row) {
  int64_t first = row.items;
  for (int64_t i = team.rank(); i < row.items && first == row.items; i += Team::kSize) {
    if (!(row.at(i) <= std::numeric_limits<Real<T>>::max())) first = i;
  }
  return team.reduce(first, Min());
}

}  // namespace zoomkern::cuda

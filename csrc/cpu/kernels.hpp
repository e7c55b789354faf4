// The loops that are worth vectorising, compiled once per instruction set, and the table through which they are called.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/reading.hpp"
#include "core/scores.hpp"

namespace zoomkern {

struct Scan {
  double max;        // of the items that may be drawn, -inf if there are none
  int64_t drawable;  // how many may be drawn
  bool wrong;        // whether there is a NaN or +inf among them
};

struct Kernels {
  const char* name;

  Scan (*scan)(const Scores&, int64_t items);
  // sum of exp(score - max) over the items that may be drawn
  double (*sum_exp)(const Scores&, int64_t items, double max);
  // Numbers of the items (counted from `first`) that a race may not reject when the winner's arrival times lie below
  // `bound`: every item left out has a key below -log(bound). Returns how many were written.
  int64_t (*survivors)(const Scores&, int64_t first, int64_t items, double max, double bound, Key, int64_t* out);
  // Numbers of the items (counted from `first`) whose score is above `bound`. Returns how many were written.
  int64_t (*above)(const Scores&, int64_t first, int64_t items, double bound, int64_t* out);
  // float64 race keys of the given items of a row
  void (*race_keys)(const Scores& row, const int64_t* items, int64_t count, double max, Key, double* keys);
  // for each key how many are larger, or equal and before it; both arrays have room for a multiple of 8
  void (*rank)(const double* keys, int64_t count, int64_t* ranks);
  // integer masses of a stretch: round(exp(score - max) * 2^bits), at least 1, 0 where nothing may be drawn
  void (*masses)(const Scores&, int64_t items, double max, int bits, uint64_t* out);
  // filled_j = 1 - exp(-c_j s) for c_j s >= 1e-150; returns the sum of its logarithms
  double (*log_filled_sum)(const double* c, int64_t count, double s, double* filled);
  // grad_i = -exp(score_i - lse[0] - lse[1]) * total, in the type of the logits
  void (*softmax_backward)(const Scores&, int64_t items, const double* lse, double total, void* grad);
  // Output rows [first, last) of one patch; `conversion` is [3, C] rows scale, shift, fill. Where it can it writes them
  // past the caches, if asked to.
  void (*read_rows)(const ImageView&, const int64_t offset[2], const Reading&, const double* conversion, int64_t first,
                    int64_t last, bool past_cache, void* patch);
  // pooled[d] = sum_n weight[n] features[n, d] for d in [first, last)
  void (*pool)(const void* features, int64_t dtype, int64_t draws, int64_t width, const double* weight, int64_t first,
               int64_t last, void* pooled);
  // grad[d] = weight * g[d]; returns sum_d g[d] (f[d] - b[d]), with b null for 0
  double (*pool_backward)(const void* g, const void* f, const void* b, int64_t dtype, int64_t width, double weight,
                          void* grad);
};

// The table in force: the best this processor can run, unless set_simd_level chose another.
const Kernels& kernels();

}  // namespace zoomkern

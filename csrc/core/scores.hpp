// Logits as every backend reads them, and the codes of what is drawn from them.
#pragma once

#include "core/pixels.hpp"

namespace zoomkern {

// In the order of zoomkern.reference.sampling.SAMPLERS and ESTIMATORS.
enum Sampler : int64_t { kGumbel, kThresholdSampler, kReplacementSampler, kTopk };
enum GumbelEstimator : int64_t { kMurthy, kDesraj };

// A stretch of one row of logits; a dtype of zoomkern.typing.PIXEL_DTYPES, floating.
struct Scores {
  const void* data;
  const bool* mask;  // null: every item may be drawn
  int64_t dtype;

  Scores from(int64_t item) const {
    return {static_cast<const char*>(data) + item * dtype_bytes(dtype), mask ? mask + item : nullptr, dtype};
  }
};

// Which random numbers a row reads.
struct Key {
  uint64_t seed;
  uint32_t row;
};

}  // namespace zoomkern

// Drawing of rows, without torch's dispatcher: what sampling.cpp and patches.cpp share.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"

namespace zoomkern {

// In the order of zoomkern.reference.sampling.SAMPLERS and ESTIMATORS.
enum Sampler : int64_t { kGumbel, kThresholdSampler, kReplacementSampler, kTopk };
enum GumbelEstimator : int64_t { kMurthy, kDesraj };

// Logits of a batch, row after row.
struct Batch {
  Scores scores;
  int64_t rows, items;

  Batch(const Tensor& logits, const std::optional<Tensor>& mask);
  Scores row(int64_t b) const { return scores.from(b * items); }

 private:
  Tensor logits_;
  std::optional<Tensor> mask_;
};

// What a pass over a row finds: its maximum, its drawable items, and the sum of exp(score - max).
struct RowStats {
  double max = 0, sum = 0;
  int64_t drawable = 0;

  double lse() const;
};

struct Rule {
  int64_t num_samples, sampler, estimator;
  bool pad;
  int64_t grid_width;
};

// index, log_prob and weight [B, N], lse [B].
struct Drawn {
  Tensor index, log_prob, weight, lse;
};

Drawn draw(const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts, const Rule& rule);

}  // namespace zoomkern

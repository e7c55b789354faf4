// What the ops that draw are given and return, and what every native backend checks of it.
#pragma once

#include "core/scores.hpp"
#include "stable/tensors.hpp"

namespace zoomkern {

// Logits of a batch, row after row.
struct Batch {
  Scores scores;
  int64_t rows, items;

  Batch(const Tensor& logits, const std::optional<Tensor>& mask)
      : rows(logits.size(0)), items(logits.size(1)), logits_(dense(logits)), mask_(dense(mask)) {
    require(logits.dim() == 2, "zoomkern: logits must be [B, L]");
    require_type(mask, ScalarType::Bool, "zoomkern: mask must be bool");
    require(!mask || (mask->dim() == 2 && mask->size(0) == rows && mask->size(1) == items),
            "zoomkern: mask must have the shape of logits");
    if (mask) require_beside(*mask, "zoomkern: mask must be on the device of logits");
    scores = {logits_.const_data_ptr(), read<bool>(mask_), dtype_of(logits_)};
    require(scores.dtype >= kFloat16, "zoomkern: logits must be floating point");
  }

  Scores row(int64_t b) const { return scores.from(b * items); }
  void require_beside(const Tensor& tensor, const char* message) const {
    zoomkern::require_beside(logits_, tensor, message);
  }
  // Of log_prob and weight.
  ScalarType probability_type() const { return scores.dtype == kFloat64 ? ScalarType::Double : ScalarType::Float; }

 private:
  Tensor logits_;
  std::optional<Tensor> mask_;
};

struct Rule {
  int64_t num_samples, sampler, estimator;
  bool pad;
  int64_t grid_width;
};

// index, log_prob and weight [B, N]; lse [B, 2]: the maximum of a row, and the logarithm of the sum of exp(score -
// max).
struct Drawn {
  Tensor index, log_prob, weight, lse;
};

inline void check_codes(int64_t sampler, int64_t estimator) {
  require(sampler >= kGumbel && sampler <= kTopk, "zoomkern: unknown sampler");
  require(estimator == 0 || (sampler == kGumbel && estimator == kDesraj), "zoomkern: unknown estimator");
}

inline void check_draw(const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts, const Rule& rule) {
  require_type(seed, ScalarType::Long, "zoomkern: seed must be int64");
  require_type(counts, ScalarType::Long, "zoomkern: counts must be int64");
  require(rule.num_samples >= 0, "zoomkern: num_samples must not be negative");
  require(rule.grid_width == 0 || (rule.grid_width > 0 && batch.items % rule.grid_width == 0),
          "zoomkern: grid_width must divide the items");
  check_codes(rule.sampler, rule.estimator);
  require(seed.dim() == 0 || (seed.dim() == 1 && seed.size(0) == batch.rows), "zoomkern: seed must be a scalar or [B]");
  require(!counts || (counts->dim() == 1 && counts->size(0) == batch.rows), "zoomkern: counts must be [B]");
  batch.require_beside(seed, "zoomkern: seed must be on the device of logits");
  if (counts) batch.require_beside(*counts, "zoomkern: counts must be on the device of logits");
}

inline void check_index_tensor(const Tensor& index, const Batch& batch) {
  require_type(index, ScalarType::Long, "zoomkern: index must be int64");
  require(index.dim() == 2 && index.size(0) == batch.rows, "zoomkern: index must be [B, N]");
  batch.require_beside(index, "zoomkern: index must be on the device of logits");
}

inline void check_backward_tensors(const Tensor& grad_log_prob, const Tensor& index, const Tensor& lse,
                                   const Batch& batch) {
  check_index_tensor(index, batch);
  require_type(lse, ScalarType::Double, "zoomkern: lse must be float64");
  require(lse.dim() == 2 && lse.size(0) == batch.rows && lse.size(1) == 2, "zoomkern: lse must be [B, 2]");
  require(grad_log_prob.dim() == 2 && grad_log_prob.size(0) == batch.rows && grad_log_prob.size(1) == index.size(1),
          "zoomkern: grad_log_prob must be [B, N]");
  batch.require_beside(lse, "zoomkern: lse must be on the device of logits");
  batch.require_beside(grad_log_prob, "zoomkern: grad_log_prob must be on the device of logits");
}

}  // namespace zoomkern

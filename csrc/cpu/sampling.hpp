// Drawing of rows, without torch's dispatcher: what sampling.cpp and patches.cpp share.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"
#include "stable/drawing.hpp"

namespace zoomkern {

// What a pass over a row finds: its maximum, its drawable items, and the sum of exp(score - max).
struct RowStats {
  double max = 0, sum = 0;
  int64_t drawable = 0;
};

Drawn draw(const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts, const Rule& rule);

}  // namespace zoomkern

// Tensors in host memory, and torch's parallel loop.
#pragma once

#include "stable/tensors.hpp"

namespace zoomkern {

inline Tensor make(const std::vector<int64_t>& sizes, ScalarType type) {
  return make_on(aoti_torch_device_type_cpu(), 0, sizes, type);
}

template <class F>
void parallel(int64_t tasks, const F& body) {
  if (tasks == 1) return body(int64_t{0});
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) body(task);
  });
}

}  // namespace zoomkern

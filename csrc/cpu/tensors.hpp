// Tensors in host memory, and torch's parallel loop.
#pragma once

#include <atomic>
#include <exception>

#include "stable/tensors.hpp"

namespace zoomkern {

inline Tensor make(const std::vector<int64_t>& sizes, ScalarType type) {
  return make_on(aoti_torch_device_type_cpu(), 0, sizes, type);
}

// The first error of a task is that of the call; torch's loop would put one of its own in its place.
template <class F>
void parallel(int64_t tasks, const F& body) {
  if (tasks == 1) return body(int64_t{0});
  std::exception_ptr error;
  std::atomic_flag told = ATOMIC_FLAG_INIT;
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    try {
      for (int64_t task = begin; task < end; ++task) body(task);
    } catch (...) {
      if (!told.test_and_set()) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace zoomkern

// The twin of csrc/cuda/stream.hpp for tests: tensors lie in host memory, and the ops take the place of the CPU's.
#pragma once

#include <cuda_runtime.h>

#include "stable/tensors.hpp"

#define ZK_DISPATCH_KEY CPU

namespace zoomkern::cuda {

class Queue {
 public:
  explicit Queue(const Tensor&) {}
  int32_t device() const { return 0; }
  cudaStream_t stream() const { return nullptr; }
  Tensor make(const std::vector<int64_t>& sizes, ScalarType type) const {
    Tensor tensor = make_on(aoti_torch_device_type_cpu(), 0, sizes, type);
    memset(tensor.mutable_data_ptr(), 0xA5, tensor.numel() * tensor.element_size());  // nobody may count on zeros
    return tensor;
  }
};

}  // namespace zoomkern::cuda

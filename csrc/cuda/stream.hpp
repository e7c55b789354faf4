// Where torch says that work shall run. The tests of kernels without a GPU replace this file by one for the host.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "stable/tensors.hpp"

#define ZK_DISPATCH_KEY CUDA

namespace zoomkern::cuda {

// Makes a tensor's device the current one, and names the stream on which torch queues work there.
class Queue {
 public:
  explicit Queue(const Tensor& tensor) : device_(device_of(tensor)), guard_(device_) {
    void* stream = nullptr;
    require(aoti_torch_get_current_cuda_stream(device_, &stream) == 0, "zoomkern: torch has no CUDA stream");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  int32_t device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  // An unwritten tensor on the device; scratch may be dropped as soon as the kernels that use it are queued.
  Tensor make(const std::vector<int64_t>& sizes, ScalarType type) const {
    return make_on(aoti_torch_device_type_cuda(), device_, sizes, type);
  }

 private:
  static int32_t device_of(const Tensor& tensor) {
    require(tensor.is_cuda(), "zoomkern: logits, offsets and what goes with them must be on one GPU");
    return tensor.get_device_index();
  }

  int32_t device_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace zoomkern::cuda

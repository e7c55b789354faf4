// Launching kernels, and the errors of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace zoomkern::cuda {

inline void check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("zoomkern: CUDA failed while ") + doing + ": " + cudaGetErrorString(error));
}

inline int64_t pieces_of(int64_t whole, int64_t piece) { return (whole + piece - 1) / piece; }

inline int attribute(cudaDeviceAttr name) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&value, name, device), "asking for a device attribute");
  return value;
}

// A kernel that may be launched with more than 48 KB of shared memory needs leave for it on each device. What it is
// given holds for all threads, so `most` is what any of its launches may want.
inline void allow_shared(const void* kernel, size_t most) {
  static std::mutex mutex;
  static std::set<std::pair<int, const void*>> allowed;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  const std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({device, kernel})) return;
  const auto bytes = static_cast<int>(most);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
  allowed.insert({device, kernel});
}

// Queues a kernel; arguments are converted to the kernel's own parameter types. An empty grid is no launch.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared, cudaStream_t stream,
            const Arguments&... arguments) {
  static_assert((0 + ... + (sizeof(Parameters) + 8)) <= 4096, "more than every driver takes");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
}

}  // namespace zoomkern::cuda

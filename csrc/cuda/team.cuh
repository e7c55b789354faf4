// Teams of threads that work on one thing together. Every thread of a team calls every function of it.
#pragma once

#include <cuda_runtime.h>

#include "core/target.hpp"

namespace zoomkern::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// The block's dynamic shared memory; kernels use no other.
extern __shared__ uint4 shared_memory[];

template <class T>
__device__ __forceinline__ T* shared_at(size_t byte) {
  return reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(shared_memory) + byte);
}

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// One warp.
struct WarpTeam {
  static constexpr int kSize = kWarp;
  static constexpr size_t kShared = 0;  // bytes of shared memory that it needs itself

  __device__ __forceinline__ explicit WarpTeam(void*) {}
  __device__ __forceinline__ int rank() const { return threadIdx.x % kWarp; }
  __device__ __forceinline__ void sync() const { __syncwarp(); }

  // The same result, with the same bits, in every thread.
  template <class T, class F>
  __device__ __forceinline__ T reduce(T value, F f) const {
    for (int lane = kWarp / 2; lane > 0; lane /= 2) value = f(value, __shfl_xor_sync(kAllLanes, value, lane));
    return value;
  }

  // The sum over threads of lower rank; `total` becomes that over all.
  template <class T>
  __device__ __forceinline__ T sum_before(T value, T& total) const {
    T sum = value;
    for (int lane = 1; lane < kWarp; lane *= 2) {
      const T below = __shfl_up_sync(kAllLanes, sum, lane);
      if (rank() >= lane) sum += below;
    }
    total = __shfl_sync(kAllLanes, sum, kWarp - 1);
    return sum - value;
  }

  // The value of one thread.
  template <class T>
  __device__ __forceinline__ T from(T value, int thread) const {
    return __shfl_sync(kAllLanes, value, thread);
  }
};

// A block of `kThreads` threads, a multiple of 32. Needs kShared bytes of shared memory, aligned to 8.
template <int kThreads>
struct BlockTeam {
  static constexpr int kSize = kThreads;
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr size_t kShared = 8 * (kWarps + 1);
  static_assert(kThreads % kWarp == 0 && kWarps <= kWarp);

  void* slots;

  __device__ __forceinline__ explicit BlockTeam(void* shared) : slots(shared) {}
  __device__ __forceinline__ int rank() const { return threadIdx.x; }
  __device__ __forceinline__ void sync() const { __syncthreads(); }

  template <class T, class F>
  __device__ __forceinline__ T reduce(T value, F f) const {
    static_assert(sizeof(T) <= 8);
    T* part = static_cast<T*>(slots);
    value = WarpTeam(nullptr).reduce(value, f);
    sync();  // whoever still reads the slots of an earlier call
    if (rank() % kWarp == 0) part[rank() / kWarp] = value;
    sync();
    T all = part[0];
    for (int warp = 1; warp < kWarps; ++warp) all = f(all, part[warp]);
    return all;
  }

  template <class T>
  __device__ __forceinline__ T sum_before(T value, T& total) const {
    static_assert(sizeof(T) <= 8);
    T* part = static_cast<T*>(slots);
    T whole;
    T before = WarpTeam(nullptr).sum_before(value, whole);
    sync();
    if (rank() % kWarp == 0) part[rank() / kWarp] = whole;
    sync();
    total = T{};
    for (int warp = 0; warp < kWarps; ++warp) {
      if (warp < rank() / kWarp) before += part[warp];
      total += part[warp];
    }
    return before;
  }
};

// Whether this block is the last of `blocks` that come to `counter`, which starts at 0 and is 0 again afterwards: it
// then sees all that the others wrote before. Every thread of the block calls it and gets the same answer.
__device__ __forceinline__ bool last_to_arrive(unsigned* counter, unsigned blocks, void* slot) {
  bool* last = static_cast<bool*>(slot);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *last = atomicAdd(counter, 1u) == blocks - 1;
    if (*last) *counter = 0;
  }
  __syncthreads();
  if (*last) __threadfence();
  return *last;
}

}  // namespace zoomkern::cuda

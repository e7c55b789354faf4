// CUDA's thread model on the host, for tests: the shipped kernels are compiled against this file instead of CUDA's own.
//
// Every thread is a fibre; all run on one thread of the machine. A fibre runs until it waits for others or touches
// memory by an atomic operation; who runs next is drawn at random (emulation::reseed), and so is the order of blocks, a
// few of which are under way at once. Waiting for a thread that has left its kernel, or for ever, is an error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <unordered_map>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the running fibre

namespace emulation {

void reseed(uint64_t seed);
// Lets another fibre run, perhaps.
void pause();
// Waits until every thread of the block, or all lanes of `mask` in the warp, have come to the same kind of wait.
void wait_for_block();
enum Meeting { kBarrier, kShuffle, kBallot };  // lanes that come to different ones do not meet
void wait_for_warp(unsigned mask, Meeting meeting);
// Leaves a lane's value for the others, waits for them, and shows what they left.
const uint64_t* exchange(unsigned mask, uint64_t value, Meeting meeting = kShuffle);
void run(dim3 grid, dim3 block, size_t shared, const std::function<void()>& kernel);
// Ends the process if a load reaches across one of the two addresses that a test has fenced.
void check_load(const void* at, size_t bytes);

template <class T>
uint64_t pack(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T unpack(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T, class F>
T atomically(T* at, F update) {
  pause();
  const T old = *at;
  *at = update(old);
  return old;
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { emulation::wait_for_warp(mask, emulation::kBarrier); }
inline void __threadfence() { emulation::pause(); }
inline void __threadfence_system() { emulation::pause(); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return emulation::unpack<T>(emulation::exchange(mask, emulation::pack(value))[lane & 31]);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  const unsigned lane = threadIdx.x % 32;
  return emulation::unpack<T>(emulation::exchange(mask, emulation::pack(value))[lane ^ lanes]);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by) {
  const unsigned lane = threadIdx.x % 32;
  return emulation::unpack<T>(emulation::exchange(mask, emulation::pack(value))[lane >= by ? lane - by : lane]);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* lanes = emulation::exchange(mask, predicate != 0, emulation::kBallot);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) bits |= static_cast<unsigned>(lanes[lane] & 1) << lane;
  }
  return bits;
}

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return emulation::atomically(at, [&](T old) { return old + value; });
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return emulation::atomically(at, [&](T old) { return old == compare ? value : old; });
}

template <class T>
T __ldg(const T* at) {
  emulation::check_load(at, sizeof(T));
  return *at;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }

// The part of the runtime that the host code uses.
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };
using cudaStream_t = void*;
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
constexpr int kMostShared = 99 << 10;  // as on the devices that zoomkern is compiled for with the least of it
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone };
constexpr unsigned cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

inline const char* cudaGetErrorString(cudaError_t error) { return error ? "invalid configuration" : "no error"; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  *value = name == cudaDevAttrMultiProcessorCount ? 4 : kMostShared;
  return cudaSuccess;
}
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  return *memory = std::malloc(bytes), cudaSuccess;
}
inline cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) { return *device = host, cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
  return memset(at, value, bytes), cudaSuccess;
}

// 48 KB of shared memory for every kernel, and more for one that asks.
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline size_t& shared_memory_of(const void* kernel) {
  static std::unordered_map<const void*, size_t> asked;
  return asked.try_emplace(kernel, 48 << 10).first->second;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (bytes < 0 || bytes > kMostShared) return cudaErrorInvalidConfiguration;
  shared_memory_of(kernel) = static_cast<size_t>(bytes);
  return cudaSuccess;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const dim3 block = config->blockDim, grid = config->gridDim;
  const unsigned threads = block.x * block.y * block.z;
  const size_t most = shared_memory_of(reinterpret_cast<const void*>(kernel));
  if (threads == 0 || threads > 1024 || grid.y > 65535 || grid.z > 65535 || config->dynamicSmemBytes > most) {
    return cudaErrorInvalidConfiguration;
  }
  emulation::run(grid, block, config->dynamicSmemBytes, [&] { kernel(static_cast<Parameters>(arguments)...); });
  return cudaSuccess;
}

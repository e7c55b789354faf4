// What the link and the memories give to plain kernels and to the copy engine: the ceilings that gathering is measured
// against. Not part of the package; nvcc alone builds it, and Python calls it through ctypes (ceilings.py).
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cooperative_groups.h>

#include <algorithm>
#include <cstdint>
#include <cuda/barrier>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 1024, kInFlight = 8;    // at least 64 KB asked for by a block before it waits
constexpr int kRowsInFlight = 4;                 // by a warp
constexpr int kStages = 8, kStageBytes = 16384;  // of the ring that the bulk copy engine fills
constexpr size_t kHugePage = size_t{1} << 21;

__device__ __forceinline__ uint32_t fold(uint4 v) { return v.x ^ v.y ^ v.z ^ v.w; }

// Keeps the loads: no compiler knows that this is hardly ever true.
__device__ __forceinline__ void use(uint32_t folded, uint32_t* sink) {
  if (folded == 0x9E3779B9u) *sink = folded;
}

__global__ void __launch_bounds__(kThreads) stream_kernel(const uint4* from, int64_t count, uint32_t* sink) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  uint32_t folded = 0;
  for (; i + (kInFlight - 1) * stride < count; i += kInFlight * stride) {
    uint4 held[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) held[k] = __ldcs(from + i + k * stride);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) folded ^= fold(held[k]);
  }
  for (; i < count; i += stride) folded ^= fold(__ldcs(from + i));
  use(folded, sink);
}

// A warp reads rows of `bytes` that start anywhere, in 16-byte words from the word in which a row starts.
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const uint8_t* from, const int64_t* starts, int64_t count, int64_t bytes, uint32_t* sink) {
  const int64_t warps = int64_t{gridDim.x} * kThreads / 32, lane = threadIdx.x % 32;
  uint32_t folded = 0;
  for (int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32; row < count; row += kRowsInFlight * warps) {
    int64_t first[kRowsInFlight];
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) first[k] = row + k * warps < count ? starts[row + k * warps] : -1;
    for (int64_t at = 16 * lane; at < bytes + 15; at += 512) {
      uint4 held[kRowsInFlight] = {};
#pragma unroll
      for (int k = 0; k < kRowsInFlight; ++k) {
        const int64_t word = first[k] / 16 * 16 + at;
        if (first[k] >= 0 && word < first[k] + bytes) held[k] = __ldcs(reinterpret_cast<const uint4*>(from + word));
      }
#pragma unroll
      for (int k = 0; k < kRowsInFlight; ++k) folded ^= fold(held[k]);
    }
  }
  use(folded, sink);
}

__global__ void chase_kernel(const volatile int64_t* next, int64_t steps, uint32_t* sink) {
  int64_t at = 0;
  for (int64_t i = 0; i < steps; ++i) at = next[at];
  use(static_cast<uint32_t>(at), sink);
}

// One thread a block keeps a ring of bulk copies in flight; needs compute capability 9.0.
__global__ void bulk_kernel(const uint8_t* from, int64_t tiles, uint32_t* sink) {
#if __CUDA_ARCH__ >= 900
  using Barrier = cuda::barrier<cuda::thread_scope_block>;
  extern __shared__ __align__(128) uint8_t ring[];
  auto* full = reinterpret_cast<Barrier*>(ring + kStages * kStageBytes);
  for (int stage = 0; stage < kStages; ++stage) init(full + stage, 1);
  cuda::device::experimental::fence_proxy_async_shared_cta();
  const int64_t mine = tiles > blockIdx.x ? (tiles - blockIdx.x - 1) / gridDim.x + 1 : 0;
  const auto ask = [&](int64_t n) {
    const int stage = static_cast<int>(n % kStages);
    const uint8_t* source = from + (blockIdx.x + n * gridDim.x) * kStageBytes;
    cuda::device::memcpy_async_tx(ring + stage * kStageBytes, source, cuda::aligned_size_t<16>(kStageBytes),
                                  full[stage]);
    (void)cuda::device::barrier_arrive_tx(full[stage], 1, kStageBytes);
  };
  for (int64_t n = 0; n < mine && n < kStages; ++n) ask(n);
  uint32_t folded = 0;
  for (int64_t n = 0; n < mine; ++n) {
    const int stage = static_cast<int>(n % kStages);
    full[stage].wait_parity((n / kStages) % 2 != 0);
    folded ^= *reinterpret_cast<const volatile uint32_t*>(ring + stage * kStageBytes);
    if (n + kStages < mine) ask(n + kStages);
  }
  use(folded, sink);
#endif
}

// Takes a whole multiprocessor away, for so long and no longer.
__global__ void hold_kernel(volatile uint8_t* started, uint64_t nanoseconds) {
  uint64_t now, begin;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  started[blockIdx.x] = 1;
  do {
    __nanosleep(10000);
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - begin < nanoseconds);
}

// What two passes over a row share: the first counts in `seen`, the second needs what all blocks counted.
__device__ __forceinline__ void first_pass(unsigned* seen) {
  if (threadIdx.x == 0) atomicAdd(seen, 1u);
}
__device__ __forceinline__ void second_pass(const volatile unsigned* seen, uint32_t* sink) { use(*seen, sink); }

__global__ void first_kernel(unsigned* seen) { first_pass(seen); }
__global__ void second_kernel(const unsigned* seen, uint32_t* sink) { second_pass(seen, sink); }

// The same, the second of which starts before the first has ended and waits for its results; compute capability 9.0.
__global__ void early_first_kernel(unsigned* seen) {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  first_pass(seen);
}
__global__ void early_second_kernel(const unsigned* seen, uint32_t* sink) {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
  second_pass(seen, sink);
}

__global__ void cooperative_kernel(unsigned* seen, uint32_t* sink) {
  first_pass(seen);
  cooperative_groups::this_grid().sync();
  second_pass(seen, sink);
}

// The blocks of a cluster, which read one another's shared memory.
__global__ void cluster_kernel(uint32_t* sink) {
#if __CUDA_ARCH__ >= 900
  __shared__ unsigned seen;
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) seen = 0;
  cluster.sync();
  if (threadIdx.x == 0) atomicAdd(cluster.map_shared_rank(&seen, 0), 1u);
  cluster.sync();
  second_pass(cluster.map_shared_rank(&seen, 0), sink);
  cluster.sync();
#endif
}

int attribute_of(cudaDeviceAttr name) {
  int device = 0, value = -1;
  if (cudaGetDevice(&device) != cudaSuccess) return -1;
  return cudaDeviceGetAttribute(&value, name, device) == cudaSuccess ? value : -1;
}

// Writes numbers that no link or memory can compress, and so makes the pages resident.
void fill(uint64_t* words, size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) words[i] = (i + 1) * 0x9E3779B97F4A7C15u ^ (i << 31);
}

size_t rounded(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

// Every function but `allocate` and `attribute` returns CUDA's error code, 0 for none; none of them waits.
extern "C" {

enum Pages { kHostAlloc, kSmall, kHuge };

int attribute(int name) { return attribute_of(static_cast<cudaDeviceAttr>(name)); }

// Page-locked memory in whole huge pages, filled by `threads`; null where it is refused.
void* allocate(int pages, size_t bytes, int threads) {
  const size_t size = rounded(bytes);
  void* memory = nullptr;
  if (pages == kHostAlloc) {
    if (cudaHostAlloc(&memory, size, cudaHostAllocDefault) != cudaSuccess) return nullptr;
  } else {
    memory = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    memory = reinterpret_cast<void*>(rounded(reinterpret_cast<size_t>(memory)));
    madvise(memory, size, pages == kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  std::vector<std::thread> workers;
  const size_t words = size / 8, share = words / threads + 1;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back(fill, static_cast<uint64_t*>(memory), std::min(words, t * share),
                         std::min(words, (t + 1) * share));
  }
  for (std::thread& worker : workers) worker.join();
  if (pages != kHostAlloc && cudaHostRegister(memory, size, cudaHostRegisterDefault) != cudaSuccess) return nullptr;
  return memory;
}

int release(int pages, void* memory, size_t bytes) {
  if (pages == kHostAlloc) return cudaFreeHost(memory);
  const cudaError_t error = cudaHostUnregister(memory);
  if (error == cudaSuccess) munmap(memory, rounded(bytes));
  return error;
}

int stream(const void* from, int64_t bytes, int blocks, uint32_t* sink, cudaStream_t queue) {
  stream_kernel<<<blocks, kThreads, 0, queue>>>(static_cast<const uint4*>(from), bytes / 16, sink);
  return cudaGetLastError();
}

int rows(const void* from, const int64_t* starts, int64_t count, int64_t bytes, int blocks, uint32_t* sink,
         cudaStream_t queue) {
  rows_kernel<<<blocks, kThreads, 0, queue>>>(static_cast<const uint8_t*>(from), starts, count, bytes, sink);
  return cudaGetLastError();
}

int chase(const int64_t* next, int64_t steps, uint32_t* sink, cudaStream_t queue) {
  chase_kernel<<<1, 1, 0, queue>>>(next, steps, sink);
  return cudaGetLastError();
}

int bulk(const void* from, int64_t bytes, int blocks, uint32_t* sink, cudaStream_t queue) {
  constexpr int kShared = kStages * (kStageBytes + sizeof(cuda::barrier<cuda::thread_scope_block>));
  if (attribute_of(cudaDevAttrComputeCapabilityMajor) < 9) return cudaErrorNotSupported;
  const cudaError_t error = cudaFuncSetAttribute(bulk_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  bulk_kernel<<<blocks, 1, kShared, queue>>>(static_cast<const uint8_t*>(from), bytes / kStageBytes, sink);
  return cudaGetLastError();
}

int copy(void* to, const void* from, int64_t bytes, cudaStream_t queue) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, queue);
}

enum Passes { kTwoLaunches, kEarlyLaunch, kCooperative, kCluster };

// Two passes of which the second needs all of the first, by `blocks` blocks of 512 threads.
int passes(int kind, int blocks, unsigned* seen, uint32_t* sink, cudaStream_t queue) {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute wish = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(512);
  config.stream = queue;
  config.attrs = &wish;
  config.numAttrs = 1;
  if (kind == kTwoLaunches) {
    first_kernel<<<blocks, 512, 0, queue>>>(seen);
    second_kernel<<<blocks, 512, 0, queue>>>(seen, sink);
    return cudaGetLastError();
  }
  if (kind == kCooperative) {
    wish.id = cudaLaunchAttributeCooperative;
    wish.val.cooperative = 1;
    return cudaLaunchKernelEx(&config, cooperative_kernel, seen, sink);
  }
  if (attribute_of(cudaDevAttrComputeCapabilityMajor) < 9) return cudaErrorNotSupported;
  if (kind == kCluster) {
    wish.id = cudaLaunchAttributeClusterDimension;
    wish.val.clusterDim.x = 8;
    wish.val.clusterDim.y = wish.val.clusterDim.z = 1;
    config.gridDim = dim3((blocks + 7) / 8 * 8);
    return cudaLaunchKernelEx(&config, cluster_kernel, sink);
  }
  early_first_kernel<<<blocks, 512, 0, queue>>>(seen);
  wish.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  wish.val.programmaticStreamSerializationAllowed = 1;
  return cudaLaunchKernelEx(&config, early_second_kernel, static_cast<const unsigned*>(seen), sink);
}

// Occupies `blocks` multiprocessors; `started`, page-locked, becomes 1 for each.
int hold(int blocks, uint64_t nanoseconds, uint8_t* started, cudaStream_t queue) {
  const int shared = attribute_of(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const cudaError_t error = cudaFuncSetAttribute(hold_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return error;
  hold_kernel<<<blocks, 1, shared, queue>>>(started, nanoseconds);
  return cudaGetLastError();
}

}  // extern "C"

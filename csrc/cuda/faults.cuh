// Values that a kernel cannot work with. It notes the first in host memory and goes on without them; the host raises
// the note when it next passes by, or at once with ZOOMKERN_CHECK=1.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace zoomkern::cuda {

enum FaultKind : int { kNoFault, kNan, kInfinity, kTooFew, kUnknownPixels, kBadIndex, kBadCount };

struct Fault {
  int claimed;  // by the thread that writes the rest
  int kind;
  int64_t row, number, needed;
};

__device__ __forceinline__ void note(Fault* fault, FaultKind kind, int64_t row, int64_t number, int64_t needed = 0) {
  if (atomicCAS(&fault->claimed, 0, 1) != 0) return;
  fault->row = row;
  fault->number = number;
  fault->needed = needed;
  __threadfence_system();
  *static_cast<volatile int*>(&fault->kind) = kind;
}

}  // namespace zoomkern::cuda

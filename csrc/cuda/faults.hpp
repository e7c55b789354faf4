// The host's side of faults.cuh.
#pragma once

#include "cuda/faults.cuh"
#include "cuda/stream.hpp"

namespace zoomkern::cuda {

// The place where kernels on the queue's device note a fault. Raises what an earlier call noted there.
Fault* fault_of(const Queue& queue);

// To be called when all kernels of an op are queued: with ZOOMKERN_CHECK=1 waits for them and raises what they noted.
void settle(const Queue& queue);

}  // namespace zoomkern::cuda

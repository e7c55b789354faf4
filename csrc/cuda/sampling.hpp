// Drawing of rows, without torch's dispatcher: what sampling.cu and patches.cu share.
#pragma once

#include "cuda/faults.hpp"
#include "cuda/stream.hpp"
#include "stable/drawing.hpp"

namespace zoomkern::cuda {

// Queues the kernels that draw; values they cannot work with are noted in `fault`, and such rows are padded.
Drawn draw(const Queue& queue, const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts,
           const Rule& rule, Fault* fault);

}  // namespace zoomkern::cuda

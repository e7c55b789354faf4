// Reading of patches, without torch's dispatcher: what gathering.cu and patches.cu share.
#pragma once

#include "cuda/faults.hpp"
#include "cuda/reading.cuh"
#include "cuda/stream.hpp"
#include "stable/reading.hpp"

namespace zoomkern::cuda {

void require_images_beside(const Tensor& other, const std::vector<Tensor>& images, const std::optional<Tensor>& table);

// An unwritten result, in the layout of memory.
Tensor make_patches(const Queue& queue, int64_t batch, int64_t draws, int64_t channels, const Reading& reading);

// Queues the kernels that read patches; images they cannot read are noted in `fault`, and such patches are filled.
void gather(const Queue& queue, const ImageArguments& images, const reading::Where& where, int64_t batch, int64_t draws,
            const Conversion& conversion, const Reading& reading, Tensor& out, Fault* fault);

}  // namespace zoomkern::cuda

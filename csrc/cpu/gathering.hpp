// Reading of patches, without torch's dispatcher: what gathering.cpp and patches.cpp share.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"
#include "stable/reading.hpp"

namespace zoomkern {

// Where each image of a batch is.
class Images {
 public:
  Images(const std::vector<Tensor>& images, const std::optional<Tensor>& table, int64_t batch, int64_t channels);
  const ImageView& operator[](int64_t b) const { return views_[b]; }

 private:
  std::vector<ImageView> views_;
};

// An unwritten result, in the layout of memory.
Tensor make_patches(int64_t batch, int64_t draws, int64_t channels, const Reading& reading);

// Reads the patches at offsets [B, N, 2], which are contiguous. Memory is `fresh` that nobody has written yet.
void gather(const Images& images, const int64_t* offsets, int64_t batch, int64_t draws, const Conversion& conversion,
            const Reading& reading, void* out, bool fresh);

}  // namespace zoomkern

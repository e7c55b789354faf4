// Reading of patches, without torch's dispatcher: what gathering.cpp and patches.cpp share.
#pragma once

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"

namespace zoomkern {

// A batch of images: one [B, C, H, W] tensor, B tensors [C, H, W], or a descriptor table [B, 8].
class Images {
 public:
  Images(const std::vector<Tensor>& images, const std::optional<Tensor>& table, int64_t batch, int64_t channels);
  const ImageView& operator[](int64_t b) const { return views_[b]; }

 private:
  std::vector<ImageView> views_;
};

// Rows scale, shift and fill of the conversion of C channels.
struct Conversion {
  Tensor rows;  // [3, C] float64

  explicit Conversion(const Tensor& conversion);
  int64_t channels() const { return rows.size(1); }
};

Reading make_reading(int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype, bool channels_last);

// An unwritten result, in the layout of memory.
Tensor make_patches(int64_t batch, int64_t draws, int64_t channels, const Reading& reading);
void check_patches(const Tensor& out, int64_t batch, int64_t draws, int64_t channels, const Reading& reading);

// Reads the patches at offsets [B, N, 2], which are contiguous.
void gather(const Images& images, const int64_t* offsets, int64_t batch, int64_t draws, const Conversion& conversion,
            const Reading& reading, void* out);

}  // namespace zoomkern

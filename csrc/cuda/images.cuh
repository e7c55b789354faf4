// What kernels that read images are told of them, as arguments of a launch: nothing is copied to the device first.
#pragma once

#include <cuda_runtime.h>

#include "core/reading.hpp"
#include "cuda/faults.cuh"

namespace zoomkern::cuda {

constexpr int kViews = 32;      // images that one launch can name
constexpr int kConstants = 96;  // numbers of a conversion that one launch can carry

// Images of a batch: rows of a descriptor table, one tensor, or views of some of them.
struct Images {
  const int64_t* table;  // null where there is none
  int64_t first;         // the image that views[0] shows
  int64_t pitch;         // bytes from image to image of one tensor
  bool together;         // whether there is one tensor
  ImageView views[kViews];
};

__device__ __forceinline__ ImageView image_at(const Images& images, int64_t b) {
  if (images.table) return view_of_row(images.table + kTableColumns * b);
  ImageView view = images.views[images.together ? 0 : b - images.first];
  if (images.together) view.data = static_cast<const char*>(view.data) + (b - images.first) * images.pitch;
  return view;
}

// Rows scale, shift and fill of a conversion of C channels.
struct Constants {
  const double* rows;  // on the device; null: they are `values`
  double values[kConstants];
};

__device__ __forceinline__ double constant_at(const Constants& constants, int64_t i) {
  return constants.rows ? constants.rows[i] : constants.values[i];
}

}  // namespace zoomkern::cuda

// The arguments of the ops that read patches, checked.
#pragma once

#include "core/reading.hpp"
#include "stable/tensors.hpp"

namespace zoomkern {

constexpr int64_t kMostPixels = (int64_t{1} << 31) - 1;  // along an axis

inline ImageView view_of(const Tensor& image, int64_t first_dim) {
  ImageView view = {image.const_data_ptr(), {}, {}, dtype_of(image)};
  for (int64_t i = 0; i < 3; ++i) {
    view.size[i] = image.size(first_dim + i);
    view.stride[i] = image.stride(first_dim + i);
  }
  return view;
}

// A batch of images as an op is given it: one [B, C, H, W] tensor, B tensors [C, H, W], or a descriptor table [B, 8].
struct ImageArguments {
  std::optional<Tensor> table;   // contiguous
  std::vector<ImageView> views;  // without a table: one for each image, or the first of one tensor
  int64_t pitch = 0;             // bytes from image to image of one tensor
  bool together = false;         // whether there is one tensor

  ImageArguments(const std::vector<Tensor>& images, const std::optional<Tensor>& given, int64_t batch,
                 int64_t channels) {
    if (given) {
      require_type(*given, ScalarType::Long, "zoomkern: table must be int64");
      require(images.empty() && given->dim() == 2 && given->size(0) == batch && given->size(1) == kTableColumns,
              "zoomkern: table must be [B, 8], without images");
      table = dense(*given);
    } else if (images.size() == 1 && images[0].dim() == 4) {
      require(images[0].size(0) == batch, "zoomkern: images must be one for each row");
      views.push_back(view_of(images[0], 1));
      pitch = images[0].stride(0) * dtype_bytes(views[0].dtype);
      together = true;
    } else {
      require(static_cast<int64_t>(images.size()) == batch, "zoomkern: images must be one for each row");
      for (const Tensor& image : images) {
        require(image.dim() == 3, "zoomkern: images must be [C, H, W]");
        views.push_back(view_of(image, 0));
      }
    }
    for (const ImageView& view : views) {
      require(view.size[0] == channels, "zoomkern: images and conversion differ in channels");
    }
  }
};

// Rows scale, shift and fill of the conversion of C channels.
struct Conversion {
  Tensor rows;  // [3, C] float64

  explicit Conversion(const Tensor& conversion) : rows(dense_as(conversion, ScalarType::Double)) {
    require(conversion.dim() == 2 && conversion.size(0) == 3, "zoomkern: conversion must be [3, C]");
    require(conversion.size(1) > 0, "zoomkern: conversion must be of one channel at least");
  }
  int64_t channels() const { return rows.size(1); }
};

// Offsets [B, N, 2].
inline void check_offsets(const Tensor& offsets) {
  require_type(offsets, ScalarType::Long, "zoomkern: offsets must be int64");
  require(offsets.dim() == 3 && offsets.size(2) == 2, "zoomkern: offsets must be [B, N, 2]");
}

inline Reading make_reading(int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype,
                            bool channels_last) {
  require(height > 0 && width > 0 && step > 0, "zoomkern: patch size and step must be positive");
  require(std::max(height, width) <= kMostPixels / step, "zoomkern: step times patch size must be below 2^31");
  require(dtype >= kFloat16 && dtype < kDtypes, "zoomkern: dtype must be floating point");
  return {{height, width}, step, shift, dtype, channels_last};
}

// The shape of the patches, in the layout of memory.
inline std::vector<int64_t> patch_sizes(int64_t batch, int64_t draws, int64_t channels, const Reading& reading) {
  const int64_t height = reading.size[0], width = reading.size[1];
  if (reading.channels_last) return {batch, draws, height, width, channels};
  return {batch, draws, channels, height, width};
}

inline void check_patches(const Tensor& out, int64_t batch, int64_t draws, int64_t channels, const Reading& reading) {
  require(out.is_contiguous() && dtype_of(out) == reading.dtype &&
              out.numel() == batch * draws * channels * reading.size[0] * reading.size[1],
          "zoomkern: out must be contiguous and have the size and type of the patches");
}

// `locations` is contiguous, and outlives the result.
inline Places make_places(int64_t rows, int64_t columns, int64_t align, const std::optional<Tensor>& locations,
                          int64_t batch, int64_t items) {
  if (!locations) {
    require(rows >= 0 && columns >= 0 && rows * columns == items, "zoomkern: logits must cover the grid");
    return {rows, columns, items, align == 1, nullptr, false};
  }
  const int64_t dims = locations->dim();
  require_type(locations, ScalarType::Long, "zoomkern: locations must be int64");
  require((dims == 2 || (dims == 3 && locations->size(0) == batch)) && locations->size(dims - 2) == items &&
              locations->size(dims - 1) == 2,
          "zoomkern: locations must be [L, 2] or [B, L, 2]");
  return {rows, columns, items, align == 1, read<int64_t>(locations), dims == 3};
}

}  // namespace zoomkern

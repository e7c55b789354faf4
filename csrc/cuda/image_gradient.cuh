// Gradients of images: every pixel sums over the patches that it was read into, in their order, so that the bits are
// those of the CPU. A pixel belongs to the first patch that covers it; what no patch covers stays zero.
#pragma once

#include "cuda/images.cuh"
#include "cuda/team.cuh"

namespace zoomkern::cuda::gradient {

constexpr int kThreads = 256;
constexpr int kSums = 4;  // channels that a thread adds up at a time

using Team = BlockTeam<kThreads>;

// A patch that may share pixels with the block's own.
struct Near {
  int64_t number, y, x;
};

constexpr size_t kNearAt = (Team::kShared + 15) / 16 * 16;
constexpr size_t kShared = kNearAt + kThreads * sizeof(Near);

// One launch.
struct Gradient {
  Images images;  // the gradients, which are contiguous
  Constants constants;
  Reading reading;
  const int64_t* offsets;  // [B, N, 2]
  const float* single;     // the gradient of the patches, as images of float64 need it and as others do
  const double* wide;
  int64_t draws, channels;
  int64_t first, tasks, tiles;  // the first patch; tiles of kThreads pixels in all, and of each patch
};

__device__ __forceinline__ const float* patches_of(const Gradient& call, float) { return call.single; }
__device__ __forceinline__ const double* patches_of(const Gradient& call, double) { return call.wide; }

__device__ __forceinline__ int64_t offset_of(const Gradient& call, const ImageView& image, int64_t patch, int axis) {
  return place(image, call.reading, axis, call.offsets[2 * patch + axis]);
}

// The position in a patch of an image's pixel, -1 if it is none of the patch's.
__device__ __forceinline__ int64_t position(int64_t pixel, int64_t offset, int64_t size, int64_t step) {
  if (pixel < offset || pixel >= offset + size * step) return -1;
  const auto distance = static_cast<unsigned>(pixel - offset), apart = static_cast<unsigned>(step);
  return distance % apart == 0 ? static_cast<int64_t>(distance / apart) : -1;
}

template <class T>
__device__ __forceinline__ void add_up(const Gradient& call, const ImageView& image, int64_t patch, int64_t tile) {
  using R = decltype(to_float(T{}));
  const Team team(shared_at<void>(0));
  Near* const near = shared_at<Near>(kNearAt);
  const Reading& reading = call.reading;
  const int64_t height = reading.size[0], width = reading.size[1], step = reading.step;
  const int64_t tall = height * step, broad = width * step, first = patch / call.draws * call.draws;
  const int64_t top = offset_of(call, image, patch, 0), left = offset_of(call, image, patch, 1);
  if (top <= -tall || top >= image.size[1] || left <= -broad || left >= image.size[2]) return;  // the whole block
  const int64_t begin = tile * kThreads, own = begin + team.rank();
  const int64_t low = top + begin / width * step, high = top + (begin + kThreads - 1) / width * step;
  const int64_t y = top + own / width * step, x = left + own % width * step;
  const bool is_inside = own < height * width && y >= 0 && y < image.size[1] && x >= 0 && x < image.size[2];
  for (int64_t channel = 0; channel < call.channels; channel += kSums) {
    R sum[kSums] = {};
    bool is_own = is_inside;
    for (int64_t from = 0; from < call.draws; from += kThreads) {
      Near candidate = {};
      bool is_near = false;
      if (from + team.rank() < call.draws) {
        candidate.number = first + from + team.rank();
        candidate.y = offset_of(call, image, candidate.number, 0);
        candidate.x = offset_of(call, image, candidate.number, 1);
        is_near =
            candidate.y <= high && candidate.y > low - tall && candidate.x < left + broad && candidate.x > left - broad;
      }
      int count = 0;
      const int at = team.sum_before(is_near ? 1 : 0, count);
      if (is_near) near[at] = candidate;
      team.sync();
      for (int k = 0; k < count && is_own; ++k) {
        const int64_t i = position(y, near[k].y, height, step), j = position(x, near[k].x, width, step);
        if (i < 0 || j < 0) continue;
        is_own = near[k].number >= patch;
        for (int c = 0; c < kSums && is_own && channel + c < call.channels; ++c) {
          const int64_t plane = near[k].number * call.channels + channel + c;
          const int64_t pixel = (near[k].number * height + i) * width + j;
          const int64_t at =
              reading.channels_last ? pixel * call.channels + channel + c : (plane * height + i) * width + j;
          const R scale = static_cast<R>(constant_at(call.constants, channel + c));
          sum[c] += patches_of(call, R{})[at] * scale;
        }
      }
    }
    for (int c = 0; c < kSums && is_own && channel + c < call.channels; ++c) {
      const int64_t at = (channel + c) * image.stride[0] + y * image.stride[1] + x * image.stride[2];
      static_cast<T*>(const_cast<void*>(image.data))[at] = from_float<T>(sum[c]);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 2) add_patches(const __grid_constant__ Gradient call) {
  for (int64_t task = blockIdx.x; task < call.tasks; task += gridDim.x) {
    const int64_t patch = call.first + task / call.tiles, tile = task % call.tiles;
    const ImageView image = image_at(call.images, patch / call.draws);
    if (image.dtype == kFloat16) add_up<Half>(call, image, patch, tile);
    if (image.dtype == kBfloat16) add_up<Bfloat>(call, image, patch, tile);
    if (image.dtype == kFloat32) add_up<float>(call, image, patch, tile);
    if (image.dtype == kFloat64) add_up<double>(call, image, patch, tile);
  }
}

}  // namespace zoomkern::cuda::gradient

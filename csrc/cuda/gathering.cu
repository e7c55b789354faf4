// Ops gather_patches, gather_patches_out and gather_patches_backward on a GPU.
#include "cuda/gathering.hpp"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "cuda/gathering.cuh"
#include "cuda/image_gradient.cuh"
#include "cuda/launch.hpp"

namespace zoomkern::cuda {

namespace {

constexpr int64_t kMostBlocks = 1 << 20;
constexpr int kNumbers = 448;  // of a long conversion, that one launch can carry

// ZOOMKERN_GATHER_MULTIPROCESSORS: on how many multiprocessors patches are read, so that other work runs beside; all.
int64_t most_blocks() {
  const char* given = std::getenv("ZOOMKERN_GATHER_MULTIPROCESSORS");
  if (!given) return kMostBlocks;
  const std::string_view word = given;
  int64_t count = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), count);
  if (error != std::errc{} || end != word.data() + word.size() || count < 1) {
    throw std::runtime_error("zoomkern: ZOOMKERN_GATHER_MULTIPROCESSORS must be a positive number; got '" +
                             std::string(word) + "'. Unset it to use all multiprocessors.");
  }
  return std::min(count, kMostBlocks);
}

// Calls `body` with images and how many they are, as often as it takes to name all of them to a launch.
template <class F>
void for_images(const ImageArguments& given, int64_t batch, F body) {
  const bool listed = !given.table && !given.together;
  const int64_t most = listed ? kViews : batch;
  for (int64_t first = 0; first < batch; first += most) {
    const int64_t count = std::min(most, batch - first);
    Images images = {read<int64_t>(given.table), first, given.pitch, given.together, {}};
    std::copy_n(given.views.begin() + (listed ? first : 0), listed ? count : given.views.size(), images.views);
    body(images, count);
  }
}

struct Numbers {
  double values[kNumbers];
};

__global__ void put_numbers(const __grid_constant__ Numbers numbers, int count, double* to) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = numbers.values[i];
}

// The numbers of a conversion travel with the launches, whose graph may outlive them.
class DeviceConversion {
 public:
  DeviceConversion(const Queue& queue, const Conversion& conversion) {
    const int64_t count = 3 * conversion.channels();
    const double* const numbers = read<double>(conversion.rows);
    if (!conversion.rows.is_cpu()) {
      constants_.rows = numbers;
    } else if (count <= kConstants) {
      std::copy_n(numbers, count, constants_.values);
    } else {
      copy_ = queue.make({count}, ScalarType::Double);
      for (int64_t first = 0; first < count; first += kNumbers) {
        Numbers some = {};
        const int64_t size = std::min<int64_t>(kNumbers, count - first);
        std::copy_n(numbers + first, size, some.values);
        launch(put_numbers, dim3(1), kWarp, 0, queue.stream(), some, size, write<double>(*copy_) + first);
      }
      constants_.rows = read<double>(copy_);
    }
  }
  const Constants& constants() const { return constants_; }

 private:
  std::optional<Tensor> copy_;
  Constants constants_ = {};
};

// Rows of a band: as many as come into shared memory at once, by bytes of a pixel if those of all images are known.
int64_t rows_of_band(const ImageArguments& images, const Reading& reading, int64_t channels) {
  int64_t bytes = 1;
  for (const ImageView& view : images.views) bytes = std::max(bytes, dtype_bytes(view.dtype));
  const int64_t row = reading.size[1] * reading.step * bytes * std::min<int64_t>(channels, reading::kMostChannels);
  const int64_t most = std::clamp<int64_t>(reading::kStage / (row + reading::kWord), 1, reading.size[0]);
  return pieces_of(reading.size[0], pieces_of(reading.size[0], most));
}

auto kernel_for(int64_t dtype) {
  switch (dtype) {
    case kFloat16:
      return reading::gather_patches<Half>;
    case kBfloat16:
      return reading::gather_patches<Bfloat>;
    case kFloat32:
      return reading::gather_patches<float>;
    default:
      return reading::gather_patches<double>;
  }
}

}  // namespace

void require_images_beside(const Tensor& other, const std::vector<Tensor>& images, const std::optional<Tensor>& table) {
  for (const Tensor& image : images) require_beside(other, image, "zoomkern: images must be on the device that reads");
  if (table) require_beside(other, *table, "zoomkern: table must be on the device that reads");
}

Tensor make_patches(const Queue& queue, int64_t batch, int64_t draws, int64_t channels, const Reading& reading) {
  return queue.make(patch_sizes(batch, draws, channels, reading), kScalarTypes[reading.dtype]);
}

void gather(const Queue& queue, const ImageArguments& images, const reading::Where& where, int64_t batch, int64_t draws,
            const Conversion& conversion, const Reading& reading, Tensor& out, Fault* fault) {
  const int64_t channels = conversion.channels(), limit = most_blocks();
  if (batch * draws == 0) return;
  const DeviceConversion numbers(queue, conversion);
  reading::Gathering call = {};
  call.constants = numbers.constants();
  call.where = where;
  call.reading = reading;
  call.draws = draws;
  call.channels = channels;
  call.slices = pieces_of(channels, reading::kMostChannels);
  call.rows = static_cast<int>(rows_of_band(images, reading, channels));
  call.bands = static_cast<int>(pieces_of(reading.size[0], call.rows));
  call.out = out.mutable_data_ptr();
  call.aligned = reinterpret_cast<uintptr_t>(call.out) % reading::kWord == 0;
  call.fault = fault;
  for_images(images, batch, [&](const Images& some, int64_t count) {
    call.images = some;
    call.first = some.first * draws;
    call.tasks = count * draws * call.slices * call.bands;
    launch(kernel_for(reading.dtype), dim3(static_cast<unsigned>(std::min(call.tasks, limit))), reading::kGatherThreads,
           reading::kGatherShared, queue.stream(), call);
  });
}

namespace {

struct Gather {
  Queue queue;
  Fault* fault;
  int64_t batch, draws;
  ImageArguments images;
  Tensor offsets;
  Conversion conversion;
  Reading reading;

  Gather(const std::vector<Tensor>& image_list, const std::optional<Tensor>& table, const Tensor& at,
         const Tensor& rows, const Reading& how)
      : queue(at),
        fault(fault_of(queue)),
        batch(at.size(0)),
        draws(at.size(1)),
        images(image_list, table, batch, rows.size(1)),
        offsets(dense(at)),
        conversion(rows),
        reading(how) {
    check_offsets(at);
    require_images_beside(at, image_list, table);
    if (!rows.is_cpu()) require_beside(at, rows, "zoomkern: conversion must be on the CPU or on the device that reads");
  }

  void run(Tensor& out) const {
    require_beside(offsets, out, "zoomkern: out must be on the device that reads");
    const reading::Where where = {read<int64_t>(offsets), nullptr, {}, nullptr};
    gather(queue, images, where, batch, draws, conversion, reading, out, fault);
    settle(queue);
  }
};

Tensor gather_patches(std::vector<Tensor> images, std::optional<Tensor> table, Tensor offsets, Tensor conversion,
                      int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, table, offsets, conversion, reading);
  Tensor out = make_patches(call.queue, call.batch, call.draws, conversion.size(1), reading);
  call.run(out);
  return out;
}

void gather_patches_out(Tensor out, std::vector<Tensor> images, std::optional<Tensor> table, Tensor offsets,
                        Tensor conversion, int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype,
                        bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, table, offsets, conversion, reading);
  check_patches(out, call.batch, call.draws, conversion.size(1), reading);
  call.run(out);
}

std::vector<Tensor> gather_patches_backward(Tensor grad, std::vector<Tensor> images, Tensor offsets, Tensor conversion,
                                            int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype,
                                            bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, std::nullopt, offsets, conversion, reading);
  require_beside(offsets, grad, "zoomkern: grad must be on the device that reads");
  const Tensor stored = dense(grad);
  check_patches(stored, call.batch, call.draws, conversion.size(1), reading);
  const auto is_wide = [](const Tensor& image) { return image.scalar_type() == ScalarType::Double; };
  const bool all_wide = std::all_of(images.begin(), images.end(), is_wide);
  const bool any_wide = std::any_of(images.begin(), images.end(), is_wide);
  const Tensor single = all_wide ? stored : dense_as(stored, ScalarType::Float);
  const Tensor wide = any_wide ? dense_as(stored, ScalarType::Double) : stored;
  std::vector<Tensor> grads;
  for (const Tensor& image : images) {
    const std::vector<int64_t> sizes(image.sizes().begin(), image.sizes().end());
    grads.push_back(call.queue.make(sizes, image.scalar_type()));
    const size_t bytes = grads.back().numel() * grads.back().element_size();
    if (bytes == 0) continue;
    check(cudaMemsetAsync(grads.back().mutable_data_ptr(), 0, bytes, call.queue.stream()), "clearing a gradient");
  }
  if (stored.numel() == 0) return grads;
  const DeviceConversion numbers(call.queue, call.conversion);
  gradient::Gradient task = {};
  task.constants = numbers.constants();
  task.reading = reading;
  task.offsets = read<int64_t>(call.offsets);
  task.single = read<float>(single);
  task.wide = read<double>(wide);
  task.draws = call.draws;
  task.channels = call.conversion.channels();
  task.tiles = pieces_of(height * width, gradient::kThreads);
  for_images(ImageArguments(grads, std::nullopt, call.batch, task.channels), call.batch,
             [&](const Images& some, int64_t count) {
               task.images = some;
               task.first = some.first * call.draws;
               task.tasks = count * call.draws * task.tiles;
               launch(gradient::add_patches, dim3(static_cast<unsigned>(std::min(task.tasks, kMostBlocks))),
                      gradient::kThreads, gradient::kShared, call.queue.stream(), task);
             });
  settle(call.queue);
  return grads;
}

}  // namespace

}  // namespace zoomkern::cuda

STABLE_TORCH_LIBRARY_IMPL(zoomkern, ZK_DISPATCH_KEY, m) {
  m.impl("gather_patches", TORCH_BOX(&zoomkern::cuda::gather_patches));
  m.impl("gather_patches_out", TORCH_BOX(&zoomkern::cuda::gather_patches_out));
  m.impl("gather_patches_backward", TORCH_BOX(&zoomkern::cuda::gather_patches_backward));
}

// Ops gather_patches, gather_patches_out and gather_patches_backward on the CPU.
#include "cpu/gathering.hpp"

#include <algorithm>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace zoomkern {

namespace {

constexpr int64_t kBandBytes = 1 << 18;  // of output, per task
constexpr int64_t kHugePage = 1 << 21;
constexpr int64_t kMostCached = 1 << 25;  // bytes of a result of which something may be left in a cache at the end

// A large fresh result is faulted in by huge pages where the system allows it: a 512th of the faults.
void advise_huge(void* data, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace

Images::Images(const std::vector<Tensor>& images, const std::optional<Tensor>& table, int64_t batch, int64_t channels) {
  const ImageArguments given(images, table, batch, channels);
  for (int64_t b = 0; b < batch; ++b) {
    if (given.table) {
      const ImageView view = view_of_row(read<int64_t>(given.table) + kTableColumns * b);
      require(view.dtype >= 0 && view.dtype < kDtypes, "zoomkern: table has an unknown pixel type");
      require(view.size[0] == channels, "zoomkern: images and conversion differ in channels");
      views_.push_back(view);
    } else {
      views_.push_back(given.views[given.together ? 0 : b]);
      views_[b].data = static_cast<const char*>(views_[b].data) + b * given.pitch;
    }
  }
}

Tensor make_patches(int64_t batch, int64_t draws, int64_t channels, const Reading& reading) {
  Tensor out = make(patch_sizes(batch, draws, channels, reading), kScalarTypes[reading.dtype]);
  advise_huge(out.mutable_data_ptr(), out.numel() * dtype_bytes(reading.dtype));
  return out;
}

void gather(const Images& images, const int64_t* offsets, int64_t batch, int64_t draws, const Conversion& conversion,
            const Reading& reading, void* out, bool fresh) {
  const int64_t channels = conversion.channels(), height = reading.size[0];
  const int64_t row_bytes = channels * reading.size[1] * dtype_bytes(reading.dtype);
  const int64_t band = std::clamp<int64_t>(kBandBytes / std::max<int64_t>(row_bytes, 1), 1, height);
  const int64_t bands = (height + band - 1) / band;
  const double* rows = read<double>(conversion.rows);
  // To write past the caches saves reading what is overwritten; new pages are in the cache already.
  const bool past_cache = !fresh && batch * draws * height * row_bytes > kMostCached;
  parallel(batch * draws * bands, [&](int64_t task) {
    const int64_t patch = task / bands, first = task % bands * band;
    const ImageView& image = images[patch / draws];
    const int64_t offset[2] = {place(image, reading, 0, offsets[2 * patch]),
                               place(image, reading, 1, offsets[2 * patch + 1])};
    void* to = static_cast<char*>(out) + patch * height * row_bytes;
    kernels().read_rows(image, offset, reading, rows, first, std::min(first + band, height), past_cache, to);
  });
}

namespace {

struct Gather {
  int64_t batch, draws;
  Images images;
  Tensor offsets;
  Conversion conversion;
  Reading reading;

  Gather(const std::vector<Tensor>& image_list, const std::optional<Tensor>& table, const Tensor& at,
         const Tensor& rows, const Reading& how)
      : batch(at.size(0)),
        draws(at.size(1)),
        images(image_list, table, at.size(0), rows.size(1)),
        offsets(dense(at)),
        conversion(rows),
        reading(how) {
    check_offsets(at);
  }

  void run(Tensor& out, bool fresh) const {
    gather(images, read<int64_t>(offsets), batch, draws, conversion, reading, out.mutable_data_ptr(), fresh);
  }
};

Tensor gather_patches(std::vector<Tensor> images, std::optional<Tensor> table, Tensor offsets, Tensor conversion,
                      int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, table, offsets, conversion, reading);
  Tensor out = make_patches(call.batch, call.draws, conversion.size(1), reading);
  call.run(out, true);
  return out;
}

void gather_patches_out(Tensor out, std::vector<Tensor> images, std::optional<Tensor> table, Tensor offsets,
                        Tensor conversion, int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype,
                        bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, table, offsets, conversion, reading);
  check_patches(out, call.batch, call.draws, conversion.size(1), reading);
  call.run(out, false);
}

// Adds the gradients of all patches of an image to the rows [first, last) of one of its channels, patch after patch, so
// that the sum does not depend on how many threads there are.
template <class T, class R>
void add_patches(const ImageView& image, const int64_t* offsets, int64_t draws, const Reading& reading, const R* grad,
                 R scale, int64_t channel, int64_t first, int64_t last, T* out) {
  const int64_t width = image.size[2], channels = image.size[0], step = reading.step;
  const int64_t pitch = reading.channels_last ? channels : 1;
  std::vector<R> sum((last - first) * width, R{0});
  for (int64_t n = 0; n < draws; ++n) {
    const int64_t offset[2] = {place(image, reading, 0, offsets[2 * n]), place(image, reading, 1, offsets[2 * n + 1])};
    const Span rows = inside(offset[0], image.size[1], reading.size[0], step);
    const Span columns = inside(offset[1], width, reading.size[1], step);
    for (int64_t i = rows.first; i < rows.last && columns.first < columns.last; ++i) {
      const int64_t y = offset[0] + i * step;
      if (y < first || y >= last) continue;
      const int64_t line = reading.channels_last ? (n * reading.size[0] + i) * reading.size[1] * channels + channel
                                                 : ((n * channels + channel) * reading.size[0] + i) * reading.size[1];
      R* to = sum.data() + (y - first) * width;
      for (int64_t j = columns.first; j < columns.last; ++j) to[offset[1] + j * step] += grad[line + j * pitch] * scale;
    }
  }
  for (size_t i = 0; i < sum.size(); ++i) out[i] = from_float<T>(sum[i]);
}

template <class T, class R>
void image_gradient(const ImageView& image, const int64_t* offsets, int64_t draws, const Reading& reading,
                    const R* grad, const double* scales, T* out) {
  const int64_t band = std::clamp<int64_t>(kBandBytes / std::max<int64_t>(image.size[2] * sizeof(R), 1), 1,
                                           std::max<int64_t>(image.size[1], 1));
  const int64_t bands = (image.size[1] + band - 1) / band;
  parallel(image.size[0] * bands, [&](int64_t task) {
    const int64_t channel = task / bands, first = task % bands * band, last = std::min(first + band, image.size[1]);
    T* to = out + (channel * image.size[1] + first) * image.size[2];
    add_patches(image, offsets, draws, reading, grad, static_cast<R>(scales[channel]), channel, first, last, to);
  });
}

std::vector<Tensor> gather_patches_backward(Tensor grad, std::vector<Tensor> images, Tensor offsets, Tensor conversion,
                                            int64_t height, int64_t width, int64_t step, bool shift, int64_t dtype,
                                            bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Gather call(images, std::nullopt, offsets, conversion, reading);
  const Tensor stored = dense(grad);
  check_patches(stored, call.batch, call.draws, conversion.size(1), reading);
  const auto is_wide = [](const Tensor& image) { return image.scalar_type() == ScalarType::Double; };
  const bool all_wide = std::all_of(images.begin(), images.end(), is_wide);
  const bool any_wide = std::any_of(images.begin(), images.end(), is_wide);
  const Tensor single = all_wide ? stored : dense_as(stored, ScalarType::Float);
  const Tensor wide = any_wide ? dense_as(stored, ScalarType::Double) : stored;
  const int64_t patch = call.draws * conversion.size(1) * height * width;
  std::vector<Tensor> grads;
  for (const Tensor& image : images) {
    std::vector<int64_t> sizes(image.sizes().begin(), image.sizes().end());
    grads.push_back(make(sizes, image.scalar_type()));
  }
  for (int64_t b = 0; b < call.batch; ++b) {
    const ImageView& image = call.images[b];
    if (image.dtype < kFloat16) continue;
    const bool one = images.size() == 1 && images[0].dim() == 4;
    const int64_t pixels = image.size[0] * image.size[1] * image.size[2];
    char* out = write<char>(grads[one ? 0 : b]) + (one ? b * pixels * dtype_bytes(image.dtype) : 0);
    const int64_t* at = read<int64_t>(call.offsets) + 2 * b * call.draws;
    const double* scales = read<double>(call.conversion.rows);
    const auto run = [&](const auto* from, auto* to) {
      image_gradient(image, at, call.draws, reading, from, scales, to);
    };
    switch (image.dtype) {
      case kFloat16:
        run(read<float>(single) + b * patch, reinterpret_cast<Half*>(out));
        break;
      case kBfloat16:
        run(read<float>(single) + b * patch, reinterpret_cast<Bfloat*>(out));
        break;
      case kFloat32:
        run(read<float>(single) + b * patch, reinterpret_cast<float*>(out));
        break;
      default:
        run(read<double>(wide) + b * patch, reinterpret_cast<double*>(out));
    }
  }
  return grads;
}

}  // namespace

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CPU, m) {
  m.impl("gather_patches", TORCH_BOX(&zoomkern::gather_patches));
  m.impl("gather_patches_out", TORCH_BOX(&zoomkern::gather_patches_out));
  m.impl("gather_patches_backward", TORCH_BOX(&zoomkern::gather_patches_backward));
}

// Ops sample_patches and sample_patches_out on the CPU: sampling and gathering in one call.
#include "cpu/gathering.hpp"
#include "cpu/sampling.hpp"

namespace zoomkern {

namespace {

// What the logits stand for: cells of a grid, or candidate places.
struct Places {
  int64_t rows, columns;
  bool corners;
  std::optional<Tensor> locations;  // [L, 2] or [B, L, 2], contiguous
  int64_t items;

  void offset(const ImageView& image, int64_t b, int64_t item, const Reading& reading, int64_t* out) const {
    const int64_t* given = read<int64_t>(locations);
    if (given && locations->dim() == 3) given += 2 * b * items;
    const int64_t cell[2] = {columns ? item / columns : 0, columns ? item % columns : 0}, cells[2] = {rows, columns};
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t pixels = image.size[1 + axis], size = reading.size[axis];
      if (item < 0) {
        out[axis] = kPaddedOffset;
        continue;
      }
      out[axis] =
          given ? given[2 * item + axis] : cell_offset(cell[axis], cells[axis], pixels, reading.step * size, corners);
      if (reading.shift) out[axis] = shift_inside(out[axis], pixels, size, reading.step);
    }
  }
};

struct Result {
  Drawn drawn;
  Tensor offsets;
};

// Draws, finds the offsets, and reads into the tensor that `make_out` returns.
template <class F>
Result run(const Images& images, const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts,
           const Places& places, const Conversion& conversion, const Rule& rule, const Reading& reading, F make_out) {
  require(places.locations || (places.rows >= 0 && places.columns >= 0 && places.rows * places.columns == batch.items),
          "zoomkern: logits must cover the grid");
  if (places.locations) {
    const Tensor& at = *places.locations;
    const int64_t dims = at.dim();
    require_type(at, ScalarType::Long, "zoomkern: locations must be int64");
    require((dims == 2 || (dims == 3 && at.size(0) == batch.rows)) && at.size(dims - 2) == batch.items &&
                at.size(dims - 1) == 2,
            "zoomkern: locations must be [L, 2] or [B, L, 2]");
  }
  Result result = {draw(batch, seed, counts, rule), make({batch.rows, rule.num_samples, 2}, ScalarType::Long)};
  const int64_t* index = read<int64_t>(result.drawn.index);
  int64_t* offsets = write<int64_t>(result.offsets);
  for (int64_t i = 0; i < batch.rows * rule.num_samples; ++i) {
    const int64_t b = i / rule.num_samples;
    places.offset(images[b], b, index[i], reading, offsets + 2 * i);
  }
  gather(images, offsets, batch.rows, rule.num_samples, conversion, reading, make_out());
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sample_patches(
    std::vector<Tensor> images, std::optional<Tensor> table, Tensor logits, std::optional<Tensor> mask, Tensor seed,
    std::optional<Tensor> counts, std::optional<Tensor> locations, Tensor conversion, int64_t rows, int64_t columns,
    int64_t align, int64_t num_samples, int64_t sampler, int64_t estimator, bool pad, int64_t height, int64_t width,
    int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Batch batch(logits, mask);
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Places places = {rows, columns, align == 1, dense(locations), batch.items};
  Tensor out = make_patches(batch.rows, num_samples, conversion.size(1), reading);
  const Result result =
      run(Images(images, table, batch.rows, conversion.size(1)), batch, seed, counts, places, Conversion(conversion),
          {num_samples, sampler, estimator, pad, columns}, reading, [&] { return out.mutable_data_ptr(); });
  const Drawn& drawn = result.drawn;
  return {out, drawn.index, result.offsets, drawn.log_prob, drawn.weight, drawn.lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sample_patches_out(
    Tensor out, std::vector<Tensor> images, std::optional<Tensor> table, Tensor logits, std::optional<Tensor> mask,
    Tensor seed, std::optional<Tensor> counts, std::optional<Tensor> locations, Tensor conversion, int64_t rows,
    int64_t columns, int64_t align, int64_t num_samples, int64_t sampler, int64_t estimator, bool pad, int64_t height,
    int64_t width, int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Batch batch(logits, mask);
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const Places places = {rows, columns, align == 1, dense(locations), batch.items};
  check_patches(out, batch.rows, num_samples, conversion.size(1), reading);
  const Result result =
      run(Images(images, table, batch.rows, conversion.size(1)), batch, seed, counts, places, Conversion(conversion),
          {num_samples, sampler, estimator, pad, columns}, reading, [&] { return out.mutable_data_ptr(); });
  const Drawn& drawn = result.drawn;
  return {drawn.index, result.offsets, drawn.log_prob, drawn.weight, drawn.lse};
}

}  // namespace

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CPU, m) {
  m.impl("sample_patches", TORCH_BOX(&zoomkern::sample_patches));
  m.impl("sample_patches_out", TORCH_BOX(&zoomkern::sample_patches_out));
}

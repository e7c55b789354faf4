// Ops sample_patches and sample_patches_out on the CPU: sampling and gathering in one call.
#include "cpu/gathering.hpp"
#include "cpu/sampling.hpp"

namespace zoomkern {

namespace {

struct Result {
  Drawn drawn;
  Tensor offsets;
};

// Draws, finds the offsets, and reads.
Result run(const Images& images, const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts,
           const Places& places, const Conversion& conversion, const Rule& rule, const Reading& reading, Tensor& out,
           bool fresh) {
  Result result = {draw(batch, seed, counts, rule), make({batch.rows, rule.num_samples, 2}, ScalarType::Long)};
  const int64_t* index = read<int64_t>(result.drawn.index);
  int64_t* offsets = write<int64_t>(result.offsets);
  for (int64_t i = 0; i < batch.rows * rule.num_samples; ++i) {
    const int64_t b = i / rule.num_samples;
    for (int axis = 0; axis < 2; ++axis) {
      offsets[2 * i + axis] = place_item(places, images[b], reading, axis, b, index[i]);
    }
  }
  gather(images, offsets, batch.rows, rule.num_samples, conversion, reading, out.mutable_data_ptr(), fresh);
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sample_patches(
    std::vector<Tensor> images, std::optional<Tensor> table, Tensor logits, std::optional<Tensor> mask, Tensor seed,
    std::optional<Tensor> counts, std::optional<Tensor> locations, Tensor conversion, int64_t rows, int64_t columns,
    int64_t align, int64_t num_samples, int64_t sampler, int64_t estimator, bool pad, int64_t height, int64_t width,
    int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Batch batch(logits, mask);
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  const std::optional<Tensor> at = dense(locations);
  const Places places = make_places(rows, columns, align, at, batch.rows, batch.items);
  Tensor out = make_patches(batch.rows, num_samples, conversion.size(1), reading);
  const Result result =
      run(Images(images, table, batch.rows, conversion.size(1)), batch, seed, counts, places, Conversion(conversion),
          {num_samples, sampler, estimator, pad, columns}, reading, out, true);
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
  const std::optional<Tensor> at = dense(locations);
  const Places places = make_places(rows, columns, align, at, batch.rows, batch.items);
  check_patches(out, batch.rows, num_samples, conversion.size(1), reading);
  const Result result =
      run(Images(images, table, batch.rows, conversion.size(1)), batch, seed, counts, places, Conversion(conversion),
          {num_samples, sampler, estimator, pad, columns}, reading, out, false);
  const Drawn& drawn = result.drawn;
  return {drawn.index, result.offsets, drawn.log_prob, drawn.weight, drawn.lse};
}

}  // namespace

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CPU, m) {
  m.impl("sample_patches", TORCH_BOX(&zoomkern::sample_patches));
  m.impl("sample_patches_out", TORCH_BOX(&zoomkern::sample_patches_out));
}

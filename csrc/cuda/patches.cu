// Ops sample_patches and sample_patches_out on a GPU: sampling and gathering in one call, without a look at the draw.
#include "cuda/gathering.hpp"
#include "cuda/sampling.hpp"

namespace zoomkern::cuda {

namespace {

// What the two ops have in common.
struct Call {
  Queue queue;
  Fault* fault;
  Batch batch;
  Reading reading;
  ImageArguments images;
  Conversion conversion;
  std::optional<Tensor> locations;
  Places places;

  Call(const std::vector<Tensor>& image_list, const std::optional<Tensor>& table, const Tensor& logits,
       const std::optional<Tensor>& mask, const std::optional<Tensor>& at, const Tensor& rows, const Reading& how,
       int64_t grid_height, int64_t grid_width, int64_t align)
      : queue(logits),
        fault(fault_of(queue)),
        batch(logits, mask),
        reading(how),
        images(image_list, table, batch.rows, rows.size(1)),
        conversion(rows),
        locations(dense(at)),
        places(make_places(grid_height, grid_width, align, locations, batch.rows, batch.items)) {
    require_images_beside(logits, image_list, table);
    if (at) require_beside(logits, *at, "zoomkern: locations must be on the device that reads");
    if (!rows.is_cpu()) {
      require_beside(logits, rows, "zoomkern: conversion must be on the CPU or on the device that reads");
    }
  }

  // The draw, and the offsets that were read into `out`.
  std::pair<Drawn, Tensor> run(const Tensor& seed, const std::optional<Tensor>& counts, const Rule& rule, Tensor& out) {
    const Drawn drawn = draw(queue, batch, seed, counts, rule, fault);
    Tensor offsets = queue.make({batch.rows, rule.num_samples, 2}, ScalarType::Long);
    const reading::Where where = {nullptr, read<int64_t>(drawn.index), places, write<int64_t>(offsets)};
    gather(queue, images, where, batch.rows, rule.num_samples, conversion, reading, out, fault);
    settle(queue);
    return {drawn, offsets};
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sample_patches(
    std::vector<Tensor> images, std::optional<Tensor> table, Tensor logits, std::optional<Tensor> mask, Tensor seed,
    std::optional<Tensor> counts, std::optional<Tensor> locations, Tensor conversion, int64_t rows, int64_t columns,
    int64_t align, int64_t num_samples, int64_t sampler, int64_t estimator, bool pad, int64_t height, int64_t width,
    int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  Call call(images, table, logits, mask, locations, conversion, reading, rows, columns, align);
  require(num_samples >= 0, "zoomkern: num_samples must not be negative");
  Tensor out = make_patches(call.queue, call.batch.rows, num_samples, call.conversion.channels(), reading);
  const auto [drawn, offsets] = call.run(seed, counts, {num_samples, sampler, estimator, pad, columns}, out);
  return {out, drawn.index, offsets, drawn.log_prob, drawn.weight, drawn.lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sample_patches_out(
    Tensor out, std::vector<Tensor> images, std::optional<Tensor> table, Tensor logits, std::optional<Tensor> mask,
    Tensor seed, std::optional<Tensor> counts, std::optional<Tensor> locations, Tensor conversion, int64_t rows,
    int64_t columns, int64_t align, int64_t num_samples, int64_t sampler, int64_t estimator, bool pad, int64_t height,
    int64_t width, int64_t step, bool shift, int64_t dtype, bool channels_last) {
  const Reading reading = make_reading(height, width, step, shift, dtype, channels_last);
  Call call(images, table, logits, mask, locations, conversion, reading, rows, columns, align);
  require_beside(logits, out, "zoomkern: out must be on the device that reads");
  check_patches(out, call.batch.rows, num_samples, call.conversion.channels(), reading);
  const auto [drawn, offsets] = call.run(seed, counts, {num_samples, sampler, estimator, pad, columns}, out);
  return {drawn.index, offsets, drawn.log_prob, drawn.weight, drawn.lse};
}

}  // namespace

}  // namespace zoomkern::cuda

STABLE_TORCH_LIBRARY_IMPL(zoomkern, ZK_DISPATCH_KEY, m) {
  m.impl("sample_patches", TORCH_BOX(&zoomkern::cuda::sample_patches));
  m.impl("sample_patches_out", TORCH_BOX(&zoomkern::cuda::sample_patches_out));
}

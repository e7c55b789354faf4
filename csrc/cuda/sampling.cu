// Ops sample, draw_weights and sample_backward on a GPU.
#include "cuda/sampling.hpp"

#include "cuda/backward.cuh"
#include "cuda/drawing.cuh"
#include "cuda/launch.hpp"

namespace zoomkern::cuda {

namespace {

using Few = WarpTeam;
using Some = BlockTeam<256>;  // with a row of their own, or a piece of a gradient; more would spill registers
using Many = BlockTeam<512>;  // that share rows

constexpr int64_t kWarpRow = 1024;       // items of a row that a warp draws
constexpr int64_t kBlockRow = 32768;     // items of a row that a block draws, where it has room for them
constexpr int64_t kMostKept = 88 << 10;  // bytes of it; with the block's own they come to less than 99 KB
constexpr int64_t kShortSpan = 32;       // of stretches, where one team knows the whole row
constexpr int kTeamsOfWarps = 4;         // in a block
constexpr int64_t kBlocksPerProcessor = 8;
constexpr int64_t kLongBlocks = 1;  // per processor, where they share rows: no more fit
constexpr int kPiece = 4096;        // items of a gradient that a block writes at once

// Enough blocks to fill the device, but no more than there is work for.
int64_t blocks_for(int64_t wanted) {
  return std::min(wanted, kBlocksPerProcessor * attribute(cudaDevAttrMultiProcessorCount));
}

template <class F>
void with_float(int64_t dtype, F body) {
  switch (dtype) {
    case kFloat16:
      return body(Half{});
    case kBfloat16:
      return body(Bfloat{});
    case kFloat32:
      return body(float{});
    default:
      return body(double{});
  }
}

template <class T>
T* scratch(const Queue& queue, std::vector<Tensor>& kept, int64_t count) {
  kept.push_back(queue.make({std::max<int64_t>(count, 1) * static_cast<int64_t>(sizeof(T))}, ScalarType::Byte));
  return static_cast<T*>(kept.back().mutable_data_ptr());
}

// Of a block that keeps its row: that of the longest, on devices that have so much.
size_t most_shared() {
  const auto most = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  return std::min(most, Desk<Some>::kBytes + kMostKept);
}

void run_short(const Queue& queue, Task& task, std::vector<Tensor>& kept) {
  const bool warps = task.items <= kWarpRow;
  const int64_t teams = warps ? kTeamsOfWarps : 1, blocks = blocks_for(pieces_of(task.rows, teams));
  task.runners = scratch<Runner>(queue, kept, blocks * teams * task.room);
  if (task.walk.count) task.walk.sum = scratch<unsigned long long>(queue, kept, 2 * blocks * teams * task.walk.count);
  task.walk.most = task.walk.sum + blocks * teams * task.walk.count;
  with_float(task.scores.dtype, [&](auto t) {
    using T = decltype(t);
    const auto run = [&](auto* by_warps, auto* by_blocks) {
      const dim3 grid(static_cast<unsigned>(blocks));
      const size_t row = row_bytes(task.items, sizeof(T));
      if (warps) {
        launch(by_warps, grid, kTeamsOfWarps * kWarp, kTeamsOfWarps * Desk<Few>::kBytes, queue.stream(), task);
      } else {
        allow_shared(reinterpret_cast<const void*>(by_blocks), most_shared());
        launch(by_blocks, grid, Some::kSize, Desk<Some>::kBytes + row, queue.stream(), task);
      }
    };
    if (task.walk.count)
      run(draw_short_rows<true, Few, T>, draw_short_rows<true, Some, T>);
    else
      run(draw_short_rows<false, Few, T>, draw_short_rows<false, Some, T>);
  });
}

// Blocks that share each row, at most so many: as many as leave the fewest multiprocessors without work in the last of
// the waves in which all blocks run.
int64_t shares_of_rows(int64_t rows, int64_t most) {
  const int64_t places = kLongBlocks * attribute(cudaDevAttrMultiProcessorCount);
  int64_t best = 1;
  const auto time = [&](int64_t shares) {
    return static_cast<double>(pieces_of(rows * shares, places)) / static_cast<double>(shares);
  };
  for (int64_t shares = 1; shares <= std::min(most, pieces_of(4 * places, rows)); ++shares) {
    if (time(shares) < time(best)) best = shares;
  }
  return best;
}

void run_long(const Queue& queue, Task& task, std::vector<Tensor>& kept) {
  if (task.rows == 0) return;
  task.parts_each = pieces_of(task.items, kSpan);
  task.blocks_each = shares_of_rows(task.rows, pieces_of(task.parts_each, Many::kSize / kWarp));
  task.runners = scratch<Runner>(queue, kept, task.rows * task.room);
  task.parts = scratch<Part>(queue, kept, task.rows * task.parts_each);
  task.plans = scratch<Plan>(queue, kept, task.rows);
  if (!task.adds_masses() && !task.given) task.binned = scratch<unsigned>(queue, kept, task.rows * Bins::kCount);
  if (task.walk.count) task.walk.sum = scratch<unsigned long long>(queue, kept, 2 * task.rows * task.walk.count);
  task.walk.most = task.walk.sum + task.rows * task.walk.count;
  task.passed = scratch<unsigned long long>(queue, kept, 2 * task.rows);
  task.arrivals = reinterpret_cast<unsigned*>(task.passed + task.rows);
  check(cudaMemsetAsync(task.passed, 0, 2 * task.rows * sizeof(unsigned long long), queue.stream()),
        "clearing counters");
  with_float(task.scores.dtype, [&](auto t) {
    using T = decltype(t);
    const auto run = [&](auto* kernel) {
      launch(kernel, dim3(static_cast<unsigned>(task.rows * task.blocks_each)), Many::kSize, Desk<Many>::kBytes,
             queue.stream(), task);
    };
    run(survey_long_rows<Many, T>);
    if (task.walk.count) {
      run(measure_long_rows<Many, T>);
      if (!task.given) run(pick_long_rows<Many, T>);
    } else if (!task.given) {
      run(bin_long_rows<Many, T>);
      run(contest_long_rows<Many, T>);
    }
  });
}

// The task that draws, or weighs, into tensors that are made here.
struct Call {
  Task task = {};
  Drawn drawn;

  Call(const Queue& queue, const Batch& batch, Tensor index, int64_t sampler, int64_t estimator, Fault* fault)
      : drawn{index, queue.make({batch.rows, index.size(1)}, batch.probability_type()),
              queue.make({batch.rows, index.size(1)}, batch.probability_type()),
              queue.make({batch.rows, 2}, ScalarType::Double)} {
    task.scores = batch.scores;
    task.rows = batch.rows;
    task.items = batch.items;
    task.draws = index.size(1);
    task.sampler = sampler;
    task.estimator = estimator;
    task.log_prob = drawn.log_prob.mutable_data_ptr();
    task.weight = drawn.weight.mutable_data_ptr();
    task.lse = write<double>(drawn.lse);
    task.fault = fault;
  }

  void run(const Queue& queue) {
    const size_t row = row_bytes(task.items, static_cast<size_t>(dtype_bytes(task.scores.dtype)));
    const bool is_kept = task.items <= kBlockRow && Desk<Some>::kBytes + row <= most_shared();
    const bool is_short = task.items <= kWarpRow || is_kept;
    task.room = std::max(task.draws, room_for(task.draws, task.items));
    task.walk.span = is_short ? kShortSpan : kSpan;
    if (task.adds_masses()) task.walk.count = pieces_of(task.items, task.walk.span);
    std::vector<Tensor> kept;  // until all kernels are queued
    (is_short ? run_short : run_long)(queue, task, kept);
  }
};

}  // namespace

Drawn draw(const Queue& queue, const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts,
           const Rule& rule, Fault* fault) {
  check_draw(batch, seed, counts, rule);
  const Tensor seeds = dense(seed);
  const std::optional<Tensor> limits = dense(counts);
  Call call(queue, batch, queue.make({batch.rows, rule.num_samples}, ScalarType::Long), rule.sampler, rule.estimator,
            fault);
  Task& task = call.task;
  task.seed = read<int64_t>(seeds);
  task.own_seed = seed.dim() > 0;
  task.counts = read<int64_t>(limits);
  task.pad = rule.pad;
  task.grid_width = rule.sampler == kThresholdSampler ? rule.grid_width : 0;
  task.index = write<int64_t>(call.drawn.index);
  call.run(queue);
  return call.drawn;
}

namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> sample(Tensor logits, std::optional<Tensor> mask, Tensor seed,
                                                  std::optional<Tensor> counts, int64_t num_samples, int64_t sampler,
                                                  int64_t estimator, bool pad, int64_t grid_width) {
  const Queue queue(logits);
  Fault* const fault = fault_of(queue);
  const Rule rule = {num_samples, sampler, estimator, pad, grid_width};
  const Drawn drawn = draw(queue, Batch(logits, mask), seed, counts, rule, fault);
  settle(queue);
  return {drawn.index, drawn.log_prob, drawn.weight, drawn.lse};
}

std::tuple<Tensor, Tensor, Tensor> draw_weights(Tensor logits, std::optional<Tensor> mask, Tensor index,
                                                int64_t sampler, int64_t estimator) {
  const Queue queue(logits);
  Fault* const fault = fault_of(queue);
  const Batch batch(logits, mask);
  check_codes(sampler, estimator);
  check_index_tensor(index, batch);
  Call call(queue, batch, dense(index), sampler, estimator, fault);
  call.task.given = read<int64_t>(call.drawn.index);
  call.run(queue);
  settle(queue);
  return {call.drawn.log_prob, call.drawn.weight, call.drawn.lse};
}

Tensor sample_backward(Tensor grad_log_prob, Tensor logits, std::optional<Tensor> mask, Tensor index, Tensor lse) {
  const Queue queue(logits);
  Fault* const fault = fault_of(queue);
  const Batch batch(logits, mask);
  check_backward_tensors(grad_log_prob, index, lse, batch);
  const Tensor grads = dense_as(grad_log_prob, ScalarType::Double), drawn = dense(index), lses = dense(lse);
  Tensor out = queue.make({batch.rows, batch.items}, kScalarTypes[batch.scores.dtype]);
  const Backward task = {batch.scores,
                         batch.rows,
                         batch.items,
                         index.size(1),
                         read<double>(grads),
                         read<int64_t>(drawn),
                         read<double>(lses),
                         out.mutable_data_ptr(),
                         fault};
  with_float(batch.scores.dtype, [&](auto t) {
    using T = decltype(t);
    if (batch.items <= kWarpRow) {
      const auto blocks = static_cast<unsigned>(blocks_for(pieces_of(batch.rows, kTeamsOfWarps)));
      launch(backward_rows<Few, kWarpRow, T>, dim3(batch.items ? blocks : 0), kTeamsOfWarps * kWarp,
             kTeamsOfWarps * BackwardShared<Few, kWarpRow>::kBytes, queue.stream(), task);
    } else {
      const auto blocks = static_cast<unsigned>(blocks_for(batch.rows * pieces_of(batch.items, kPiece)));
      launch(backward_rows<Some, kPiece, T>, dim3(blocks), Some::kSize, BackwardShared<Some, kPiece>::kBytes,
             queue.stream(), task);
    }
  });
  settle(queue);
  return out;
}

}  // namespace

}  // namespace zoomkern::cuda

STABLE_TORCH_LIBRARY_IMPL(zoomkern, ZK_DISPATCH_KEY, m) {
  m.impl("sample", TORCH_BOX(&zoomkern::cuda::sample));
  m.impl("draw_weights", TORCH_BOX(&zoomkern::cuda::draw_weights));
  m.impl("sample_backward", TORCH_BOX(&zoomkern::cuda::sample_backward));
}

// Gradient towards the logits: grad_i = sum over draws j of i of g_j - p_i sum_j g_j.
#pragma once

#include "cuda/faults.cuh"
#include "cuda/rows.cuh"

namespace zoomkern::cuda {

struct Backward {
  Scores scores;
  int64_t rows, items, draws;
  const double* grad;    // [B, N]
  const int64_t* index;  // [B, N]
  const double* lse;     // [B, 2]
  void* out;
  Fault* fault;
};

// Each team writes stretches of kItems; its shared memory counts how often each of their items was drawn.
template <class Team, int kItems>
struct BackwardShared {
  static constexpr size_t kCounts = (Team::kShared + 15) / 16 * 16;
  static constexpr size_t kBytes = kCounts + kItems * sizeof(unsigned);
};

template <class Team, int kItems, class T>
__global__ void __launch_bounds__(Team::kSize < 128 ? 128 : Team::kSize, 2) backward_rows(const Backward task) {
  using R = Real<T>;
  using Shared = BackwardShared<Team, kItems>;
  const int teams = static_cast<int>(blockDim.x) / Team::kSize, number = static_cast<int>(threadIdx.x) / Team::kSize;
  const Team team(shared_at<void>(number * Shared::kBytes));
  unsigned* const times = shared_at<unsigned>(number * Shared::kBytes + Shared::kCounts);
  const int64_t pieces = (task.items + kItems - 1) / kItems;
  for (int64_t t = int64_t{blockIdx.x} * teams + number; t < task.rows * pieces; t += int64_t{gridDim.x} * teams) {
    const int64_t b = t / pieces, begin = t % pieces * kItems, end = Min()(begin + kItems, task.items);
    const Row<T> row(task.scores, b, task.items);
    const int64_t* index = task.index + b * task.draws;
    const double *grad = task.grad + b * task.draws, max = task.lse[2 * b], log_sum = task.lse[2 * b + 1];
    T* const out = static_cast<T*>(task.out) + b * task.items;
    const auto here = [&](int64_t item) { return item >= begin && item < end && row.at(item) > kLowest<R>; };

    team.sync();  // whoever is still busy with the piece before
    for (int i = team.rank(); i < kItems; i += Team::kSize) times[i] = 0;
    team.sync();
    double total = 0;
    for (int64_t j = team.rank(); j < task.draws; j += Team::kSize) {
      const int64_t item = index[j];
      if (item >= 0 && item < task.items && row.at(item) > kLowest<R>)
        total += grad[j];
      else if (item != -1 && begin == 0)
        note(task.fault, kBadIndex, b, item);
      if (here(item)) atomicAdd(&times[item - begin], 1u);
    }
    total = team.reduce(total, Sum());
    const R scale = static_cast<R>(-total);
    row.sweep(begin, end, team.rank(), Team::kSize, [&](int64_t item, const R(&score)[kFour]) {
      Four<T> four;
#pragma unroll
      for (int k = 0; k < kFour; ++k) {
        const R x = static_cast<R>((static_cast<double>(score[k]) - max) - log_sum);
        four.at[k] = from_float<T>(scale * exp_below_zero(x < 0 ? x : R{0}));
      }
      if (item + kFour <= end && reinterpret_cast<uintptr_t>(out + item) % sizeof(four) == 0) {
        *reinterpret_cast<Four<T>*>(out + item) = four;
        return;
      }
      for (int k = 0; k < kFour && item + k < end; ++k) out[item + k] = four.at[k];
    });
    team.sync();
    // The first draw of an item adds all of them, in order.
    for (int64_t j = team.rank(); j < task.draws; j += Team::kSize) {
      const int64_t item = index[j];
      if (!here(item)) continue;
      double sum = grad[j];
      if (times[item - begin] > 1) {
        int64_t before = 0;
        while (index[before] != item) ++before;
        if (before < j) continue;
        for (int64_t k = j + 1; k < task.draws; ++k) sum += index[k] == item ? grad[k] : 0.0;
      }
      out[item] = from_float<T>(static_cast<double>(to_float(out[item])) + sum);
    }
  }
}

}  // namespace zoomkern::cuda

// Weights of a draw without replacement; the formulas are told in zoomkern/reference/weights.py.
#pragma once

#include "cuda/masses.cuh"
#include "cuda/rows.cuh"
#include "cuda/selection.cuh"

namespace zoomkern::cuda {

// Share of the row's mass that was not drawn. `parts` are those of stretches of kSpan items, or null; `sorted` has room
// for the draw.
template <class Team, class T>
__device__ double rest_of(const Team& team, const Row<T>& row, const Part& whole, const Part* parts,
                          const int64_t* index, const double* prob, int64_t n, int64_t* sorted) {
  double drawn = 0;
  for (int64_t j = team.rank(); j < n; j += Team::kSize) drawn += prob[j];
  const double rest = 1 - team.reduce(drawn, Sum());
  if (sizeof(T) < 8 && rest > 0.05) return rest;
  // Where little is left the difference cancels: sum the items that were not drawn.
  for (int64_t j = team.rank(); j < n; j += Team::kSize) sorted[j] = index[j];
  team.sync();
  sort(team, sorted, n, Less());
  const auto first_from = [&](int64_t item) {
    int64_t low = 0;
    for (int64_t high = n; low < high;) {
      const int64_t middle = low + (high - low) / 2;
      if (sorted[middle] < item)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  };
  const Crew crew = crew_of(team);
  const int lane = team.rank() % kWarp;
  double sum = 0;
  for (int64_t s = crew.warp; s * kSpan < row.items; s += crew.warps) {
    const int64_t begin = s * kSpan, end = Min()(begin + kSpan, row.items), next = first_from(begin);
    if (parts && (next == n || sorted[next] >= end)) {
      if (lane == 0) sum += parts[s].sum_below(whole.max);
      continue;
    }
    for (int64_t item = begin + lane; item < end; item += kWarp) {
      const int64_t at = first_from(item);
      if (at < n && sorted[at] == item) continue;
      const double x = static_cast<double>(row.at(item));
      if (x > kLowest<double>) sum += exact::exp(x - whole.max);
    }
  }
  return team.reduce(sum, Sum()) / whole.sum;
}

// Replaces prob by the weights.
template <class Team>
__device__ void desraj(const Team& team, double* prob, int64_t n, double rest) {
  double behind = rest;  // of the draws that were seen, which are the last
  for (int64_t first = 0; first < n; first += Team::kSize) {
    const int64_t later = first + team.rank();
    const double own = later < n ? prob[n - 1 - later] : 0.0;
    double all;
    const double left = behind + team.sum_before(own, all) + own;
    if (later < n) prob[n - 1 - later] = (left + static_cast<double>(later) * own) / static_cast<double>(n);
    behind += all;
  }
  team.sync();
}

// Nodes of Murthy's quadrature, by how many nats the integrand may fall before it is cut off, for float32 and float64.
constexpr int kFewNodes = 64, kManyNodes = 256;
constexpr double kShallow = 20, kDeep = 38;
constexpr size_t kNodeBytes = 2 * kManyNodes * sizeof(double);

// Replaces prob by the weights. The integrand e^t h(e^t) is log-concave in t. It and its variants, which lack one
// factor of h, have risen from e^-fall of themselves at the first `start` below, and are back there at the first
// `stop`: their logarithms' slopes are at least 1 - e^t, and at most n + 1 - e^t. Both close in until half of the nodes
// lie where the integrand counts.
template <class Team>
__device__ void murthy(const Team& team, double* prob, int64_t n, double rest, bool fine, double* nodes) {
  if (!(rest > 0)) return;
  constexpr double tiny = 1e-130;
  const WarpTeam warp(nullptr);
  const Crew crew = crew_of(team);
  const int count = fine ? kManyNodes : kFewNodes, lane = warp.rank();
  const double fall = fine ? kDeep : kShallow, scale = 1 / Max()(rest, tiny);
  double drawn = 0, rarest = 1;
  for (int64_t j = team.rank(); j < n; j += Team::kSize) {
    drawn += prob[j];
    rarest = Min()(rarest, prob[j]);
  }
  const double total = rest + team.reduce(drawn, Sum());
  rarest = team.reduce(rarest, Min());
  const auto filled = [&](double p, double s) { return exact::one_minus_exp(Max()(p, tiny) * s); };  // s: over rest

  double *value = nodes, *left = nodes + count, top = 0, most = static_cast<double>(n) + 1;
  double start = -(fall + 1), stop = exact::log(most + fall + sqrt(fall * fall + 2 * fall * most));
  for (;;) {
    const double step = (stop - start) / (count - 1);
    team.sync();
    for (int64_t k = crew.warp; k < count; k += crew.warps) {
      const double t = start + step * static_cast<double>(k), e = exact::exp(t), s = e * scale;
      double sum = 0;
      for (int64_t j = lane; j < n; j += 2 * kWarp) {
        const double one = filled(prob[j], s), two = j + kWarp < n ? filled(prob[j + kWarp], s) : 1.0;
        sum += exact::log(one * two);
      }
      sum = warp.reduce(sum, Sum());
      if (lane == 0) {
        value[k] = t - e + sum;
        left[k] = value[k] - exact::log(filled(rarest, s));
      }
    }
    team.sync();
    // Every warp finds the ends by itself.
    top = value[lane];
    for (int k = lane; k < count; k += kWarp) top = Max()(top, value[k]);
    top = warp.reduce(top, Max());
    int mode = count - 1;
    for (int k = lane; k < count; k += kWarp) mode = value[k] == top ? Min()(mode, k) : mode;
    mode = warp.reduce(mode, Min());
    int first = 0, last = count - 1;
    for (int k = lane; k < count; k += kWarp) {
      if (k < mode && left[k] < left[mode] - fall) first = Max()(first, k);
      if (k > mode && value[k] < top - fall) last = Min()(last, k);
    }
    first = warp.reduce(first, Max());
    last = warp.reduce(last, Min());
    if (2 * (last - first) >= count - 1) break;
    stop = start + step * last;
    start += step * first;
  }
  team.sync();
  for (int k = team.rank(); k < count; k += Team::kSize) {
    value[k] = exact::exp(value[k] - top);
    left[k] = exact::exp(start + (stop - start) / (count - 1) * k) * scale;  // from now on where the node is
  }
  team.sync();
  double sum = 0;
  for (int64_t j = crew.warp; j < n; j += crew.warps) {
    double ratio = 0;
    for (int k = lane; k < count; k += kWarp) ratio += value[k] / filled(prob[j], left[k]);
    const double weight = prob[j] * warp.reduce(ratio, Sum());
    sum += weight;
    if (lane == 0) prob[j] = weight;
  }
  sum = team.reduce(lane == 0 ? sum : 0.0, Sum());
  for (int64_t j = team.rank(); j < n; j += Team::kSize) prob[j] *= total / sum;
  team.sync();
}

}  // namespace zoomkern::cuda

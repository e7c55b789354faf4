// Integer masses of a row and the samplers that add them: zoomkern/reference/masses.py. Masses are never stored: each
// stretch of the walk along a row keeps their sum and maximum, and is computed again where one of its items matters.
#pragma once

#include "core/philox.hpp"
#include "cuda/rows.cuh"

namespace zoomkern::cuda {

constexpr int kSumBits = 62, kMostBits = 52;

// Items of mass tau or more are certain, the rest share `draws`.
struct Cut {
  uint64_t tau, rest;
  int64_t draws;

  __device__ __forceinline__ bool certain(uint64_t mass) const { return mass >= tau; }
  __device__ __forceinline__ double inclusion(uint64_t mass) const {
    if (certain(mass)) return 1.0;
    return static_cast<double>(mass) * (static_cast<double>(draws) / static_cast<double>(rest));
  }
};

// A warp among `warps` that share the work.
struct Crew {
  int64_t warp, warps;
};
template <class Team>
__device__ __forceinline__ Crew crew_of(const Team& team) {
  return {team.rank() / kWarp, Team::kSize / kWarp};
}

// Positions [s * span, (s + 1) * span) of the walk, for every s below `count`: the sum of their masses, later the sum
// of all uncertain ones before, and the largest.
struct Stretches {
  unsigned long long *sum, *most;
  int64_t count, span;  // the span is a multiple of 32
};

template <class T>
struct Masses {
  Row<T> row;
  double max;
  int64_t grid_width;
  int bits;

  __device__ __forceinline__ Masses(const Row<T>& r, double top, int64_t width) : row(r), max(top), grid_width(width) {
    const int64_t last = row.items > 2 ? row.items - 1 : 1;
    const int left = kSumBits - (64 - __clzll(last));
    bits = left < kMostBits ? left : kMostBits;
  }

  __device__ __forceinline__ uint64_t of(int64_t item) const {
    const double x = static_cast<double>(row.at(item));
    if (!(x > kLowest<double>)) return 0;
    const double mass = exact::exp(x - max) * static_cast<double>(uint64_t{1} << bits);
    return bit_cast<uint64_t>(Max()(mass, 1.0) + 0x1p52) - bit_cast<uint64_t>(0x1p52);  // rounds, for masses <= 2^52
  }

  // A walk that turns at the end of every row of the grid.
  __device__ __forceinline__ int64_t item_at(int64_t position) const {
    if (grid_width == 0) return position;
    const int64_t line = position / grid_width, at = position % grid_width;
    return line * grid_width + (line % 2 ? grid_width - 1 - at : at);
  }

  // One warp.
  __device__ void measure(const Stretches& walk, int64_t s) const {
    const WarpTeam warp(nullptr);
    unsigned long long sum = 0, most = 0;
    for (int64_t p = s * walk.span + warp.rank(); p < (s + 1) * walk.span && p < row.items; p += kWarp) {
      const unsigned long long mass = of(item_at(p));
      sum += mass;
      most = Max()(most, mass);
    }
    sum = warp.reduce(sum, Sum());
    most = warp.reduce(most, Max());
    if (warp.rank() == 0) {
      walk.sum[s] = sum;
      walk.most[s] = most;
    }
  }

  // Calls f(item, mass, stretch) for the items of stretches whose largest mass is at least `least`.
  template <class F>
  __device__ void visit_heavy(const Stretches& walk, uint64_t least, const Crew& crew, F f) const {
    const int lane = threadIdx.x % kWarp;
    for (int64_t base = kWarp * crew.warp; base < walk.count; base += kWarp * crew.warps) {
      unsigned heavy = __ballot_sync(kAllLanes, base + lane < walk.count && walk.most[base + lane] >= least);
      for (; heavy; heavy &= heavy - 1) {
        const int64_t s = base + __ffs(static_cast<int>(heavy)) - 1;
        for (int64_t p = s * walk.span + lane; p < (s + 1) * walk.span && p < row.items; p += kWarp) {
          const int64_t item = item_at(p);
          f(item, of(item), s);
        }
      }
    }
  }

  template <class Team>
  __device__ uint64_t total(const Team& team, const Stretches& walk) const {
    uint64_t sum = 0;
    for (int64_t s = team.rank(); s < walk.count; s += Team::kSize) sum += walk.sum[s];
    return team.reduce(sum, Sum());
  }

  // Sets aside what is certain until nothing more is: an item is while `draws` times its mass reaches all that is left.
  template <class Team>
  __device__ Cut cut(const Team& team, const Stretches& walk, uint64_t whole, int64_t draws) const {
    Cut cut = {std::numeric_limits<uint64_t>::max(), whole, draws};
    while (cut.draws > 0) {
      const uint64_t left = static_cast<uint64_t>(cut.draws), mean = (cut.rest + left - 1) / left,
                     least = Max()(mean, uint64_t{1});
      uint64_t tau = cut.tau, sum = 0;
      int64_t found = 0;
      visit_heavy(walk, least, crew_of(team), [&](int64_t, uint64_t mass, int64_t) {
        if (mass < least || cut.certain(mass)) return;
        tau = Min()(tau, mass);
        sum += mass;
        ++found;
      });
      found = team.reduce(found, Sum());
      if (!found) break;
      cut = {team.reduce(tau, Min()), cut.rest - team.reduce(sum, Sum()), cut.draws - found};
    }
    return cut;
  }

  // Turns sums into sums before, of what is not certain.
  template <class Team>
  __device__ void add_up(const Team& team, const Stretches& walk, uint64_t tau) const {
    team.sync();
    visit_heavy(walk, tau, crew_of(team), [&](int64_t, uint64_t mass, int64_t s) {
      if (mass >= tau) atomicAdd(&walk.sum[s], 0ull - mass);
    });
    team.sync();
    unsigned long long along = 0;
    for (int64_t first = 0; first < walk.count; first += Team::kSize) {
      const int64_t s = first + team.rank();
      unsigned long long all;
      const unsigned long long before = team.sum_before(s < walk.count ? walk.sum[s] : 0ull, all);
      if (s < walk.count) walk.sum[s] = along + before;
      along += all;
    }
    team.sync();
  }

  // The item in whose share of the uncertain masses, one after the other along the walk, a point falls. One warp.
  __device__ int64_t locate(const Stretches& walk, uint64_t tau, uint64_t point) const {
    const WarpTeam warp(nullptr);
    int64_t s = 0;
    for (int64_t high = walk.count; high - s > 1;) {
      const int64_t middle = s + (high - s) / 2;
      (walk.sum[middle] <= point ? s : high) = middle;
    }
    uint64_t along = walk.sum[s];
    for (int64_t first = s * walk.span; first < row.items; first += kWarp) {
      const int64_t p = first + warp.rank();
      const uint64_t mass = p < row.items ? of(item_at(p)) : 0, open = mass < tau ? mass : 0;
      uint64_t all;
      const uint64_t before = along + warp.sum_before(open, all);
      const unsigned here = __ballot_sync(kAllLanes, before <= point && point < before + open);
      if (here) return item_at(first + __ffs(static_cast<int>(here)) - 1);
      along += all;
    }
    return -1;
  }

  // Draws that a cut leaves open, evenly spaced along the walk from a random start; then what is certain, in any order.
  // `counter` starts at 0.
  __device__ void draw_threshold(const Stretches& walk, const Cut& cut, const Key& key, const Crew& crew,
                                 unsigned long long* counter, int64_t* index) const {
    if (cut.draws) {
      const uint64_t n = static_cast<uint64_t>(cut.draws), whole = cut.rest / n, part = cut.rest % n;
      const uint64_t start = uniform_below(key.seed, 0, key.row, kThreshold, cut.rest);
      for (int64_t j = crew.warp; j < cut.draws; j += crew.warps) {
        const uint64_t step = static_cast<uint64_t>(j);
        const int64_t item = locate(walk, cut.tau, step * whole + (start + step * part) / n);
        if (threadIdx.x % kWarp == 0) index[j] = item;
      }
    }
    visit_heavy(walk, cut.tau, crew, [&](int64_t item, uint64_t mass, int64_t) {
      if (cut.certain(mass)) index[cut.draws + static_cast<int64_t>(atomicAdd(counter, 1ull))] = item;
    });
  }

  __device__ void draw_replacement(const Stretches& walk, uint64_t whole, int64_t draws, const Key& key,
                                   const Crew& crew, int64_t* index) const {
    for (int64_t j = crew.warp; j < draws; j += crew.warps) {
      const uint64_t point = uniform_below(key.seed, static_cast<uint64_t>(j), key.row, kReplacement, whole);
      const int64_t item = locate(walk, std::numeric_limits<uint64_t>::max(), point);
      if (threadIdx.x % kWarp == 0) index[j] = item;
    }
  }
};

}  // namespace zoomkern::cuda

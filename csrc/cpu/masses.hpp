// Integer masses of a row and the samplers that add them: zoomkern/reference/masses.py. Masses are never stored: each
// stretch of a row keeps their sum and maximum, and is computed again where one of its items matters.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "core/philox.hpp"
#include "cpu/kernels.hpp"

namespace zoomkern {

constexpr int kSumBits = 62, kMostBits = 52;

// Items of mass tau or more are certain, the rest share `draws`.
struct Cut {
  uint64_t tau, rest;
  int64_t draws;

  bool certain(uint64_t mass) const { return mass >= tau; }
  double inclusion(uint64_t mass) const {
    return certain(mass) ? 1.0 : static_cast<double>(mass) * (static_cast<double>(draws) / static_cast<double>(rest));
  }
};

class RowMasses {
 public:
  // A stretch holds whole rows of the grid, so that a walk along it turns inside.
  RowMasses(const Scores& row, int64_t items, double max, int64_t grid_width, int64_t chunk)
      : row_(row), items_(items), max_(max), grid_width_(grid_width) {
    int length = 0;
    while (std::max<int64_t>(items - 1, 1) >> length) ++length;
    bits_ = std::min(kMostBits, kSumBits - length);
    stretch_ = grid_width > 0 ? std::max<int64_t>(chunk / grid_width, 1) * grid_width : chunk;
    sum_.resize((items + stretch_ - 1) / stretch_);
    most_.resize(sum_.size());
  }

  int64_t stretches() const { return static_cast<int64_t>(sum_.size()); }

  void measure(int64_t s) {
    const uint64_t* mass = compute(s);
    const int64_t items = size(s);
    uint64_t sum = 0, most = 0;
    for (int64_t i = 0; i < items; ++i) {
      sum += mass[i];
      most = std::max(most, mass[i]);
    }
    sum_[s] = sum;
    most_[s] = most;
  }

  uint64_t total() const {
    uint64_t total = 0;
    for (const uint64_t sum : sum_) total += sum;
    return total;
  }

  uint64_t mass(int64_t item) const {
    uint64_t mass = 0;
    kernels().masses(row_.from(item), 1, max_, bits_, &mass);
    return mass;
  }

  // Sets aside what is certain until nothing more is: an item is while `draws` times its mass reaches all that is left.
  Cut cut(int64_t draws) const {
    Cut cut = {std::numeric_limits<uint64_t>::max(), total(), draws};
    while (cut.draws > 0) {
      const uint64_t left = static_cast<uint64_t>(cut.draws),
                     least = std::max<uint64_t>((cut.rest + left - 1) / left, 1);
      uint64_t tau = cut.tau, sum = 0;
      int64_t found = 0;
      for (int64_t s = 0; s < stretches(); ++s) {
        if (most_[s] < least) continue;
        const uint64_t* mass = compute(s);
        for (int64_t i = 0; i < size(s); ++i) {
          if (mass[i] < least || mass[i] >= cut.tau) continue;
          tau = std::min(tau, mass[i]);
          sum += mass[i];
          ++found;
        }
      }
      if (!found) break;
      cut = {tau, cut.rest - sum, cut.draws - found};
    }
    return cut;
  }

  void draw_threshold(int64_t draws, Key key, int64_t* index) const {
    const Cut parts = cut(draws);
    const uint64_t n = static_cast<uint64_t>(parts.draws), whole = n ? parts.rest / n : 0,
                   part = n ? parts.rest % n : 0;
    const uint64_t start = n ? uniform_below(key.seed, 0, key.row, kThreshold, parts.rest) : 0;
    const auto point = [&](uint64_t j) { return j * whole + (start + j * part) / n; };
    uint64_t j = 0, along = 0;
    int64_t drawn = 0;
    for (int64_t s = 0; s < stretches(); ++s) {
      const bool certain = most_[s] >= parts.tau;
      if (!certain && (j == n || along + sum_[s] <= point(j))) {
        along += sum_[s];
        continue;
      }
      const uint64_t* mass = compute(s);
      for (int64_t i = 0; i < size(s); ++i) {
        const int64_t at = walk(i, s);
        if (parts.certain(mass[at])) {
          index[drawn++] = s * stretch_ + at;
          continue;
        }
        along += mass[at];
        if (j < n && along > point(j)) {
          index[drawn++] = s * stretch_ + at;
          ++j;
        }
      }
    }
    std::sort(index, index + drawn);
  }

  void draw_replacement(int64_t draws, Key key, int64_t* index) const {
    const uint64_t all = total();
    std::vector<std::pair<uint64_t, int64_t>> points(draws);
    for (int64_t j = 0; j < draws; ++j) {
      points[j] = {uniform_below(key.seed, static_cast<uint64_t>(j), key.row, kReplacement, all), j};
    }
    std::sort(points.begin(), points.end());
    uint64_t along = 0;
    auto next = points.begin();
    for (int64_t s = 0; next != points.end(); along += sum_[s++]) {
      if (next->first >= along + sum_[s]) continue;
      const uint64_t* mass = compute(s);
      uint64_t inside = along;
      for (int64_t i = 0; i < size(s) && next != points.end(); ++i) {
        inside += mass[i];
        for (; next != points.end() && next->first < inside; ++next) index[next->second] = s * stretch_ + i;
      }
    }
  }

 private:
  int64_t size(int64_t s) const { return std::min(stretch_, items_ - s * stretch_); }

  const uint64_t* compute(int64_t s) const {
    thread_local std::vector<uint64_t> buffer;
    buffer.resize(std::max<size_t>(buffer.size(), stretch_));
    kernels().masses(row_.from(s * stretch_), size(s), max_, bits_, buffer.data());
    return buffer.data();
  }

  // Step i of the walk through a stretch, which turns at the end of every grid row.
  int64_t walk(int64_t i, int64_t s) const {
    if (grid_width_ == 0) return i;
    const int64_t line = i / grid_width_, at = i % grid_width_;
    const bool back = (s * stretch_ / grid_width_ + line) % 2 == 1;
    return line * grid_width_ + (back ? grid_width_ - 1 - at : at);
  }

  Scores row_;
  int64_t items_;
  double max_;
  int64_t grid_width_, stretch_;
  int bits_;
  std::vector<uint64_t> sum_, most_;
};

}  // namespace zoomkern

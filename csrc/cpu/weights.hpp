// Weights of a draw without replacement; the formulas are told in zoomkern/reference/weights.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/kernels.hpp"

namespace zoomkern {

inline void desraj(const double* prob, int64_t n, double rest, double* weight) {
  double left = rest;
  for (int64_t j = n - 1; j >= 0; --j) {
    left += prob[j];
    weight[j] = (left + static_cast<double>(n - 1 - j) * prob[j]) / static_cast<double>(n);
  }
}

// The quadrature of Murthy's weights: by how many nats the integrand falls before it is cut off, the widest step in
// log s, the fewest steps, and what share of its distance from the mode an end may be too far. With step h the error is
// about exp(-7 / h), or exp(-20 (width / h)^2) where the integrand is narrow: its width is at least 1 / sqrt(2 n).
struct Quadrature {
  double fall, widest;
  int fewest;
  double slack;
};
constexpr Quadrature kSingle = {20.0, 0.25, 14, 0.125}, kDouble = {38.0, 0.2, 48, 0x1p-9};

class Murthy {
 public:
  Murthy(const double* prob, int64_t n, double rest, const Quadrature& rule)
      : prob_(prob), n_(n), rest_(rest), rule_(rule), c_(n), filled_(n) {}

  void weigh(double* weight) {
    if (!(rest_ > 0)) {
      for (int64_t j = 0; j < n_; ++j) weight[j] = prob_[j];
      return;
    }
    constexpr double tiny = 1e-130;
    double total = rest_, sum_c = 0;
    for (int64_t j = 0; j < n_; ++j) {
      c_[j] = std::fmax(prob_[j], tiny) / std::fmax(rest_, tiny);
      if (c_[j] < c_[slowest_]) slowest_ = j;
      total += prob_[j];
      sum_c += c_[j];
    }
    const double mode = std::log(mode_of(sum_c)), top = log_value(mode, 1),
                 left_top = top - std::log(filled_[slowest_]);
    const double start = mode - fallen(mode, left_top, -1), stop = mode + fallen(mode, top, 1);
    const int steps = std::max(rule_.fewest, static_cast<int>(std::ceil((stop - start) / rule_.widest)));
    std::vector<double> ratio(n_, 0.0);
    double whole = 0;
    for (int k = 0; k <= steps; ++k) {
      const double t = start + (stop - start) * k / steps, value = std::exp(log_value(t, 1) - top);
      for (int64_t j = 0; j < n_; ++j) ratio[j] += value / filled_[j];
      whole += value;
    }
    double sum = 0;
    for (int64_t j = 0; j < n_; ++j) sum += weight[j] = prob_[j] * ratio[j] / whole;
    for (int64_t j = 0; j < n_; ++j) weight[j] *= total / sum;
  }

 private:
  // Near the root in [1, n + 1] of 1 - s + sum_j c_j s / (e^(c_j s) - 1): where the integrand is within four nats of
  // its top. Since x / (e^x - 1) is at least 1 - x / 2, the root is not below (n + 1) / (1 + sum_j c_j / 2).
  double mode_of(double sum) {
    const double n = static_cast<double>(n_), near = std::min(0.25, 2 / std::sqrt(n));
    double low = std::max(1.0, (n + 1) / (1 + sum / 2)), high = n + 1;
    while (high - low > near * low) {
      const double s = 0.5 * (low + high);
      kernels().log_filled_sum(c_.data(), n_, s, filled_.data());
      double slope = 1 - s;
      for (int64_t j = 0; j < n_; ++j) slope += c_[j] * s * (1 - filled_[j]) / filled_[j];
      (slope > 0 ? low : high) = s;
    }
    return low;
  }

  // log of the integrand at s = e^t. To the left the slowest to fall is the one without the factor of the least
  // probable item.
  double log_value(double t, int side) {
    const double s = std::exp(t), value = t - s + kernels().log_filled_sum(c_.data(), n_, s, filled_.data());
    return side < 0 ? value - std::log(filled_[slowest_]) : value;
  }

  // How far from the mode, where its logarithm is `top`, the integrand has fallen. The first guess is for a diffuse
  // draw, whose integrand is s^(n + 1) e^-s.
  double fallen(double mode, double top, int side) {
    const double floor = top - rule_.fall, most = rule_.fall * (1 + 2 * rule_.slack);
    double near = 0, far = std::min(1.0, (side < 0 ? 1.2 : 1.0) * std::sqrt(2 * rule_.fall) * std::exp(-0.5 * mode));
    double value = log_value(mode + side * far, side);
    for (; value > floor; value = log_value(mode + side * far, side)) near = far, far *= 2;
    while (far - near > rule_.slack * far && top - value > most) {
      const double middle = 0.5 * (near + far), there = log_value(mode + side * middle, side);
      if (there > floor)
        near = middle;
      else
        far = middle, value = there;
    }
    return far;
  }

  const double* prob_;
  int64_t n_;
  double rest_;
  Quadrature rule_;
  int64_t slowest_ = 0;
  std::vector<double> c_, filled_;  // filled: 1 - e^(-c_j s) at the last s
};

}  // namespace zoomkern

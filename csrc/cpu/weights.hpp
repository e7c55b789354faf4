// Weights of a draw without replacement; the formulas are told in zoomkern/reference/weights.py.
#pragma once

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

// How the quadrature of Murthy's weights is cut: nodes, the fall of the integrand in nats at which it ends, and how
// often its two ends are halved.
struct Quadrature {
  int nodes;
  double fall;
  int bisections;
};
constexpr Quadrature kSingle = {32, 20.0, 3}, kDouble = {160, 38.0, 12};

class Murthy {
 public:
  Murthy(const double* prob, int64_t n, double rest, const Quadrature& rule) : prob_(prob), n_(n), rest_(rest), rule_(rule) {}

  void weigh(double* weight) {
    if (!(rest_ > 0)) {
      for (int64_t j = 0; j < n_; ++j) weight[j] = prob_[j];
      return;
    }
    constexpr double tiny = 1e-280;
    c_.resize(n_);
    terms_.resize(n_);
    double total = rest_, least = INFINITY;
    for (int64_t j = 0; j < n_; ++j) {
      c_[j] = std::fmax(prob_[j], tiny) / std::fmax(rest_, tiny);
      if (c_[j] < least) least = c_[j], slowest_ = j;
      total += prob_[j];
    }
    const double mode = std::log(mode_of());
    const double start = mode - fallen(mode, -1), stop = mode + fallen(mode, 1);
    std::vector<double> terms(rule_.nodes * n_), value(rule_.nodes), ratio(n_, 0.0);
    double top = -INFINITY, whole = 0;
    for (int k = 0; k < rule_.nodes; ++k) {
      const double t = start + (stop - start) * k / (rule_.nodes - 1);
      value[k] = kernels().log_integrand(c_.data(), n_, t, terms.data() + k * n_);
      top = std::fmax(top, value[k]);
    }
    for (int k = 0; k < rule_.nodes; ++k) {
      kernels().add_ratios(terms.data() + k * n_, n_, value[k] - top, ratio.data());
      whole += std::exp(value[k] - top);
    }
    double sum = 0;
    for (int64_t j = 0; j < n_; ++j) sum += weight[j] = prob_[j] * ratio[j] / whole;
    for (int64_t j = 0; j < n_; ++j) weight[j] *= total / sum;
  }

 private:
  // Near the root in [1, n + 1] of 1 - s + sum_j c_j s / (e^(c_j s) - 1); it is only a place to start from.
  double mode_of() const {
    double low = 1, high = static_cast<double>(n_) + 1;
    while (high - low > 0.1 * low) {
      const double s = 0.5 * (low + high);
      double slope = 1 - s;
      for (int64_t j = 0; j < n_; ++j) {
        const double x = c_[j] * s;
        slope += x < 1e-8 ? 1.0 : x > 700 ? 0.0 : x / std::expm1(x);
      }
      (slope > 0 ? low : high) = s;
    }
    return low;
  }

  // To the left the slowest of the integrands is the one that leaves out the factor of the least probable item.
  double log_value(double t, int side) {
    const double value = kernels().log_integrand(c_.data(), n_, t, terms_.data());
    return side < 0 ? value - terms_[slowest_] : value;
  }

  // How far from the mode the integrand has fallen.
  double fallen(double mode, int side) {
    const double floor = log_value(mode, side) - rule_.fall;
    double near = 0, far = 1;
    while (log_value(mode + side * far, side) > floor) near = far, far *= 2;
    for (int i = 0; i < rule_.bisections; ++i) {
      const double middle = 0.5 * (near + far);
      (log_value(mode + side * middle, side) < floor ? far : near) = middle;
    }
    return far;
  }

  const double* prob_;
  int64_t n_;
  double rest_;
  Quadrature rule_;
  int64_t slowest_ = 0;
  std::vector<double> c_, terms_;
};

}  // namespace zoomkern

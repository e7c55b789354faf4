// Ops expectation and expectation_backward on the CPU.
#include <algorithm>
#include <cmath>

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"

namespace zoomkern {

namespace {

constexpr int64_t kColumns = 4096;  // of one task

// In the order of zoomkern.reference.expectation.GRADIENTS.
enum Gradient : int64_t { kExact, kAts, kZoomIn };

struct Features {
  Tensor tensor;  // [B, N, D], contiguous
  int64_t batch, draws, width, dtype, bytes;

  explicit Features(const Tensor& features)
      : tensor(dense(features)),
        batch(features.size(0)),
        draws(features.size(1)),
        width(features.dim() == 3 ? features.size(2) : 0),
        dtype(dtype_of(features)),
        bytes(dtype_bytes(dtype)) {
    require(features.dim() == 3, "zoomkern: features must be [B, N, D]");
    require(dtype >= kFloat16, "zoomkern: features must be floating point");
  }
  const char* row(int64_t b, int64_t n) const { return read<char>(tensor) + (b * draws + n) * width * bytes; }
};

Tensor as_double(const Tensor& values, const Features& features) {
  require(values.dim() == 2 && values.size(0) == features.batch && values.size(1) == features.draws,
          "zoomkern: weight and log_prob must be [B, N]");
  return dense_as(values, ScalarType::Double);
}

Tensor expectation(Tensor features, Tensor weight) {
  const Features f(features);
  const Tensor weights = as_double(weight, f);
  Tensor out = make({f.batch, f.width}, features.scalar_type());
  char* pooled = write<char>(out);
  const int64_t blocks = (f.width + kColumns - 1) / kColumns;
  parallel(f.batch * blocks, [&](int64_t task) {
    const int64_t b = task / blocks, first = task % blocks * kColumns, last = std::min(first + kColumns, f.width);
    kernels().pool(f.row(b, 0), f.dtype, f.draws, f.width, read<double>(weights) + b * f.draws, first, last,
                   pooled + b * f.width * f.bytes);
  });
  return out;
}

// The published gradients of one row, whose terms are all made of the products <g, f_j>.
struct Published {
  std::vector<double> prob, mass, coefficient;  // a_j, the mass before (or after) draw j, that of f_j's gradient
  int64_t n = 0;

  Published(const double* log_prob, const double* weight, int64_t draws, bool inclusive) {
    for (int64_t j = 0; j < draws; ++j) {
      prob.push_back(weight[j] != 0 ? std::exp(log_prob[j]) : 0.0);
      n += weight[j] != 0;
    }
    double left = 1;
    for (int64_t j = 0; j < draws; ++j) {
      mass.push_back(inclusive ? left - prob[j] : left);
      const double value = mass[j] + static_cast<double>(n - 1 - j) * prob[j];
      coefficient.push_back(weight[j] != 0 ? value / static_cast<double>(n) : 0.0);
      left -= prob[j];
    }
  }

  void grad_log_prob(const double* product, const double* weight, bool inclusive, double* grad) const {
    double before = 0, sum = 0, left = 1;  // sums over l < j of a_l <g, f_l> and <g, f_l>; 1 - sum a_l
    for (size_t j = 0; j < prob.size(); ++j) {
      const double single = before + left * product[j];
      const double sums = inclusive ? sum + product[j] : sum;
      const double path = prob[j] * (sums - static_cast<double>(j) * product[j]);
      grad[j] = weight[j] != 0 ? (single * mass[j] + path) / static_cast<double>(n) : 0.0;
      before += prob[j] * product[j];
      sum += product[j];
      left -= prob[j];
    }
  }
};

std::tuple<Tensor, Tensor> expectation_backward(Tensor grad, Tensor features, Tensor log_prob, Tensor weight,
                                                std::optional<Tensor> baseline, int64_t gradient) {
  const Features f(features);
  require(gradient >= kExact && gradient <= kZoomIn, "zoomkern: unknown gradient");
  const Tensor weights = as_double(weight, f), log_probs = as_double(log_prob, f);
  const Tensor g = dense(grad);
  const std::optional<Tensor> base = gradient == kExact ? dense(baseline) : std::nullopt;
  require(dtype_of(g) == f.dtype && g.numel() == f.batch * f.width,
          "zoomkern: grad must be [B, D] of the features' type");
  require(!base || (dtype_of(*base) == f.dtype && base->numel() == f.batch * f.width),
          "zoomkern: baseline must be [B, D] of the features' type");
  Tensor grad_features = make({f.batch, f.draws, f.width}, features.scalar_type());
  Tensor grad_log_probs = make({f.batch, f.draws}, ScalarType::Double);
  char* to = write<char>(grad_features);
  double* grad_log = write<double>(grad_log_probs);
  std::vector<double> coefficient(read<double>(weights), read<double>(weights) + f.batch * f.draws);
  for (int64_t b = 0; gradient != kExact && b < f.batch; ++b) {
    const int64_t at = b * f.draws;
    const Published row(read<double>(log_probs) + at, read<double>(weights) + at, f.draws, gradient == kZoomIn);
    std::copy(row.coefficient.begin(), row.coefficient.end(), coefficient.begin() + at);
  }
  std::vector<double> product(f.batch * f.draws);
  parallel(f.batch * f.draws, [&](int64_t i) {
    const int64_t b = i / f.draws, row = b * f.width * f.bytes;
    const char* b_row = base ? read<char>(*base) + row : nullptr;
    product[i] = kernels().pool_backward(read<char>(g) + row, f.row(b, i % f.draws), b_row, f.dtype, f.width,
                                         coefficient[i], to + i * f.width * f.bytes);
  });
  for (int64_t b = 0; b < f.batch; ++b) {
    const int64_t at = b * f.draws;
    const double* w = read<double>(weights) + at;
    if (gradient == kExact) {
      for (int64_t j = 0; j < f.draws; ++j) grad_log[at + j] = w[j] * product[at + j];
    } else {
      const Published row(read<double>(log_probs) + at, w, f.draws, gradient == kZoomIn);
      row.grad_log_prob(product.data() + at, w, gradient == kZoomIn, grad_log + at);
    }
  }
  return {grad_features, dense_as(grad_log_probs, log_prob.scalar_type())};
}

}  // namespace

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CPU, m) {
  m.impl("expectation", TORCH_BOX(&zoomkern::expectation));
  m.impl("expectation_backward", TORCH_BOX(&zoomkern::expectation_backward));
}

// What the ops need of torch's stable ABI: typed pointers, outputs, and the parallel loop.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/pixels.hpp"

namespace zoomkern {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr ScalarType kScalarTypes[] = {ScalarType::Byte,     ScalarType::UInt16, ScalarType::Half,
                                       ScalarType::BFloat16, ScalarType::Float,  ScalarType::Double};

inline void require(bool condition, const char* message) {
  if (!condition) throw std::runtime_error(message);
}

inline int64_t dtype_of(const Tensor& tensor) {
  for (int64_t code = 0; code < kDtypes; ++code) {
    if (tensor.scalar_type() == kScalarTypes[code]) return code;
  }
  throw std::runtime_error("zoomkern: unsupported pixel type");
}

inline Tensor make(std::vector<int64_t> sizes, ScalarType type) {
  return torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes), type);
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* read(const std::optional<Tensor>& tensor) {
  return tensor ? read<T>(*tensor) : nullptr;
}

template <class T>
T* write(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Tensor>(torch::stable::contiguous(*tensor)) : std::nullopt;
}

template <class F>
void parallel(int64_t tasks, const F& body) {
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) body(task);
  });
}

}  // namespace zoomkern

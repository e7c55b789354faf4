// What the ops need of torch's stable ABI: typed pointers, outputs, and the parallel loop.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
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

// Public functions check their arguments in Python; what calls an op itself must not read garbage either.
inline void require_type(const Tensor& tensor, ScalarType type, const char* message) {
  require(tensor.scalar_type() == type, message);
}
inline void require_type(const std::optional<Tensor>& tensor, ScalarType type, const char* message) {
  if (tensor) require_type(*tensor, type, message);
}

inline int64_t dtype_of(const Tensor& tensor) {
  for (int64_t code = 0; code < kDtypes; ++code) {
    if (tensor.scalar_type() == kScalarTypes[code]) return code;
  }
  throw std::runtime_error("zoomkern: unsupported pixel type");
}

// An unwritten, contiguous tensor, made without the dispatcher.
inline Tensor make(const std::vector<int64_t>& sizes, ScalarType type) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  AtenTensorHandle handle = nullptr;
  const AOTITorchError error =
      aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                               static_cast<int32_t>(type), aoti_torch_device_type_cpu(), 0, &handle);
  require(error == 0, "zoomkern: no memory for the result");
  return Tensor(handle);
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

// These ask torch for a copy only where one is needed: a call through the dispatcher costs a microsecond.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline std::optional<Tensor> dense(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Tensor>(dense(*tensor)) : std::nullopt;
}

inline Tensor dense_as(const Tensor& tensor, ScalarType type) {
  return dense(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

template <class F>
void parallel(int64_t tasks, const F& body) {
  if (tasks == 1) return body(int64_t{0});
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) body(task);
  });
}

}  // namespace zoomkern

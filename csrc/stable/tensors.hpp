// What every native backend needs of torch's stable ABI: checks, typed pointers, unwritten tensors.
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

// A kernel follows an address wherever it leads.
inline void require_beside(const Tensor& other, const Tensor& tensor, const char* message) {
  require(tensor.is_cuda() == other.is_cuda() && tensor.get_device_index() == other.get_device_index(), message);
}

inline int64_t dtype_of(const Tensor& tensor) {
  for (int64_t code = 0; code < kDtypes; ++code) {
    if (tensor.scalar_type() == kScalarTypes[code]) return code;
  }
  throw std::runtime_error("zoomkern: unsupported pixel type");
}

// An unwritten, contiguous tensor, made without the dispatcher.
inline Tensor make_on(int32_t device_type, int32_t device_index, const std::vector<int64_t>& sizes, ScalarType type) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  AtenTensorHandle handle = nullptr;
  const AOTITorchError error =
      aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                               static_cast<int32_t>(type), device_type, device_index, &handle);
  if (error != 0) {
    const int64_t numbers = sizes.empty() ? 1 : sizes[0] * strides[0];
    throw std::runtime_error("zoomkern: no memory for a result of " + std::to_string(numbers) + " numbers");
  }
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

}  // namespace zoomkern

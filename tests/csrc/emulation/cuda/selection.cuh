// csrc/cuda/selection.cuh, whose comparable numbers are counted: whoever looks through a whole row makes one an item.
#pragma once

#include <cstdint>

namespace emulation {
extern uint64_t ordered_numbers;
}

#define ordered ordered_uncounted
#include_next "cuda/selection.cuh"
#undef ordered

namespace zoomkern::cuda {
inline uint64_t ordered(double x) {
  ++emulation::ordered_numbers;
  return ordered_uncounted(x);
}
}  // namespace zoomkern::cuda

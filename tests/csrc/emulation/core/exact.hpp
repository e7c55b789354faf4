// csrc/core/exact.hpp, whose arrival times are counted: one is computed for every exact key of a race.
#pragma once

#include <cstdint>

namespace emulation {
extern uint64_t arrival_times;
}

#define log_exponential log_exponential_uncounted
#include_next "core/exact.hpp"
#undef log_exponential

namespace zoomkern::exact {
ZK_INLINE double log_exponential(uint32_t high, uint32_t low) {
  ++emulation::arrival_times;
  return log_exponential_uncounted(high, low);
}
}  // namespace zoomkern::exact

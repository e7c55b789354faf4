// The arithmetic that decides an index, by itself, so that its machine code can be searched for fused operations.
#include "core/exact.hpp"
#include "core/philox.hpp"

__global__ void key_probe(const double* score, double max, uint64_t seed, double* key, double* mass) {
  using namespace zoomkern;
  const uint64_t item = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x;
  key[item] = (score[item] - max) - exact::log_exponential(word(seed, item, 0, kRace), word(seed, item, 0, kRace + 1));
  mass[item] = exact::exp(score[item] - max) * 0x1p52;
}

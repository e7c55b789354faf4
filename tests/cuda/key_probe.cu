// The arithmetic that decides an index, by itself, so that its machine code can be searched for fused operations: of
// the kernels' own functions.
#include "cuda/masses.cuh"
#include "cuda/race.cuh"

using namespace zoomkern::cuda;

template <class T>
__device__ void decide(const Race<T>& race, const Masses<T>& masses, uint64_t* key, uint64_t* mass) {
  const int64_t item = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  key[item] = race.key(item, race.row.at(item));
  mass[item] = masses.of(item);
}

__global__ void key_probe_float(const Race<float> race, const Masses<float> masses, uint64_t* key, uint64_t* mass) {
  decide(race, masses, key, mass);
}
__global__ void key_probe_double(const Race<double> race, const Masses<double> masses, uint64_t* key, uint64_t* mass) {
  decide(race, masses, key, mass);
}

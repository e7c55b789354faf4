// Kernels whose special cases no draw is likely to meet.
#define ZK_ISA baseline
#include "cpu/kernels.cpp"

#include <cstdio>
#include <numeric>
#include <vector>

int main() {
  int failures = 0;
  for (int64_t count = 1; count <= 256; ++count) {
    for (const int64_t values : {1, 2, 7, 1000003}) {  // few values, so that many keys are equal
      std::vector<double> keys((count + 7) / 8 * 8);
      std::vector<int64_t> ranks(keys.size()), order(count);
      for (int64_t i = 0; i < count; ++i) keys[i] = static_cast<double>((i * 7919 + count) % values) - 3.5;
      zoomkern::baseline::table.rank(keys.data(), count, ranks.data());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return keys[a] > keys[b]; });
      for (int64_t place = 0; place < count; ++place) failures += ranks[order[place]] != place;
    }
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}

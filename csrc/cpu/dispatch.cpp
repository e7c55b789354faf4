// Chooses the table of kernels for this processor.
#include <cstdlib>

#include "cpu/kernels.hpp"
#include "cpu/tensors.hpp"

namespace zoomkern {

namespace baseline {
extern const Kernels table;
}
#if ZK_X86
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

std::vector<const Kernels*> supported() {
  std::vector<const Kernels*> tables = {&baseline::table};
#if ZK_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2) tables.push_back(&avx2::table);
  if (avx2 && avx512) tables.push_back(&avx512::table);
#endif
  return tables;
}

const Kernels*& chosen() {
  static const Kernels* table = supported().back();
  return table;
}

std::string simd_level() { return chosen()->name; }

void set_simd_level(std::string level) {
  std::string names;
  for (const Kernels* table : supported()) {
    if (level == table->name) {
      chosen() = table;
      return;
    }
    names += std::string(names.empty() ? "" : ", ") + table->name;
  }
  throw std::runtime_error("level must be one that this processor runs (" + names + "); got " + level);
}

std::string cpu_features() {
  std::string features;
  for (const Kernels* table : supported()) features += std::string(features.empty() ? "" : " ") + table->name;
  return features;
}

}  // namespace

const Kernels& kernels() { return *chosen(); }

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CompositeExplicitAutograd, m) {
  m.impl("simd_level", TORCH_BOX(&zoomkern::simd_level));
  m.impl("set_simd_level", TORCH_BOX(&zoomkern::set_simd_level));
  m.impl("cpu_features", TORCH_BOX(&zoomkern::cpu_features));
}

// What every core header needs: fixed-width integers, and functions that a vectoriser or a GPU compiler can inline.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ZK_INLINE __host__ __device__ __forceinline__
#else
// Internal linkage on purpose: the same header is compiled for several instruction sets, and the linker must not keep
// one of them for all.
#define ZK_INLINE static inline __attribute__((always_inline, unused))
#endif

namespace zoomkern {

template <class To, class From>
ZK_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace zoomkern

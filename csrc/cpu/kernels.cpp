// Compiled once per instruction set, in a namespace of its own (ZK_ISA). Loops are written so that the compiler
// vectorises them; sums run over a fixed number of lanes, so that every instruction set adds in the same order.
#include "cpu/kernels.hpp"

#include <cmath>
#include <limits>

#include "core/exact.hpp"
#include "core/philox.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace zoomkern::ZK_ISA {

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 1024;  // items that are converted at a time, and added before a sum is widened
constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
constexpr bool kWide = sizeof(T) == 8;
template <class T>
using Real = std::conditional_t<kWide<T>, double, float>;

// Calls `body` with a value of the C++ type of a floating dtype.
template <class F>
auto with_float(int64_t dtype, F body) {
  switch (dtype) {
    case kFloat16: return body(Half{});
    case kBfloat16: return body(Bfloat{});
    case kFloat32: return body(float{});
    default: return body(double{});
  }
}

// The scores of a block: -inf where nothing may be drawn.
template <class T>
ZK_INLINE void load(const Scores& scores, int64_t begin, int64_t count, Real<T>* out) {
  const T* data = static_cast<const T*>(scores.data) + begin;
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Real<T>>(to_float(data[i]));
  if (scores.mask) {
    const uint8_t* mask = reinterpret_cast<const uint8_t*>(scores.mask) + begin;
    for (int64_t i = 0; i < count; ++i) out[i] = mask[i] ? out[i] : -std::numeric_limits<Real<T>>::infinity();
  }
}

// exp(x) for x <= 0 to 2 ulp; 2^-126 at the least.
ZK_INLINE float fast_exp(float x) {
  x = x > -87.0f ? x : -87.0f;
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer part in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * bit_cast<float>((bit_cast<uint32_t>(shifted) + 127u) << 23);
}
ZK_INLINE float exp_of(float x) { return x >= -87.0f ? fast_exp(x) : 0.0f; }
ZK_INLINE double exp_of(double x) { return exact::exp(x); }

template <class T>
Scan scan(const Scores& scores, int64_t items) {
  using R = Real<T>;
  constexpr R lowest = -std::numeric_limits<R>::infinity();
  R block[kBlock], top[kLanes];
  int32_t wrong = 0;
  int64_t drawable = 0;
  for (int64_t j = 0; j < kLanes; ++j) top[j] = lowest;
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
    load<T>(scores, begin, count, block);
    for (int64_t i = count; i < padded; ++i) block[i] = lowest;
    int32_t finite = 0;
    for (int64_t i = 0; i < padded; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const R x = block[i + j];
        top[j] = x > top[j] ? x : top[j];
        finite += x > lowest;
        wrong |= !(x <= std::numeric_limits<R>::max());
      }
    }
    drawable += finite;
  }
  R max = lowest;
  for (int64_t j = 0; j < kLanes; ++j) max = top[j] > max ? top[j] : max;
  return {static_cast<double>(max), drawable, wrong != 0};
}

template <class T>
double sum_exp(const Scores& scores, int64_t items, double max) {
  using R = Real<T>;
  R block[kBlock];
  double total = 0;
  const R top = static_cast<R>(max);
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
    load<T>(scores, begin, count, block);
    for (int64_t i = count; i < padded; ++i) block[i] = -std::numeric_limits<R>::infinity();
    R lanes[kLanes] = {};
    for (int64_t i = 0; i < padded; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) lanes[j] += exp_of(block[i + j] - top);
    }
    for (int64_t j = 0; j < kLanes; ++j) total += lanes[j];
  }
  return total;
}

// The first words of 16 groups of four items, in the order of the items.
ZK_INLINE void race_words(Key key, uint64_t group, uint32_t* out) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) {
    c0[j] = static_cast<uint32_t>(group) + static_cast<uint32_t>(j);  // 16 groups share their upper word
    c1[j] = static_cast<uint32_t>(group >> 32);
    c2[j] = key.row;
    c3[j] = kRace;
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const uint64_t a = static_cast<uint64_t>(c0[j]) * 0xD2511F53u, b = static_cast<uint64_t>(c2[j]) * 0xCD9E8D57u;
      c0[j] = static_cast<uint32_t>(b >> 32) ^ c1[j] ^ k0;
      c2[j] = static_cast<uint32_t>(a >> 32) ^ c3[j] ^ k1;
      c1[j] = static_cast<uint32_t>(b);
      c3[j] = static_cast<uint32_t>(a);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int64_t j = 0; j < kLanes; ++j) {
    out[4 * j] = c0[j];
    out[4 * j + 1] = c1[j];
    out[4 * j + 2] = c2[j];
    out[4 * j + 3] = c3[j];
  }
}

// An item is rejected when u >= exp(score - max) * bound. Both sides are taken to 31 bits and with a margin of 2^-13,
// more than the errors of the fast exponential and of its argument, so that rounding only lets more items through.
template <class T>
int64_t survivors(const Scores& scores, int64_t first, int64_t items, double max, double bound, Key key, int64_t* out) {
  using R = Real<T>;
  constexpr int64_t group = 4 * kLanes;
  const R top = static_cast<R>(max);
  const double wide = bound * (1 + 0x1p-13) * 0x1p31;
  const float factor = wide < 1e38 ? static_cast<float>(wide) : 1e38f;
  int64_t found = 0;
  R block[kBlock];
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    load<T>(scores, begin, count, block);
    for (int64_t i = count; i < kBlock; ++i) block[i] = -std::numeric_limits<R>::infinity();
    for (int64_t i = 0; i < count; i += group) {
      uint32_t words[group];
      uint8_t kept[group];
      race_words(key, static_cast<uint64_t>(first + begin + i) >> 2, words);
      for (int64_t j = 0; j < group; ++j) {
        const R x = block[i + j] - top;
        const float limit = fast_exp(static_cast<float>(x)) * factor;
        const float u = static_cast<float>(static_cast<int32_t>(words[j] >> 1));
        kept[j] = (u <= limit) & (block[i + j] > -std::numeric_limits<R>::infinity());
      }
      for (int64_t j = 0; j < group; j += 8) {
        uint64_t any;
        memcpy(&any, kept + j, 8);
        if (!any) continue;
        for (int64_t k = j; k < j + 8; ++k) {
          if (kept[k]) out[found++] = first + begin + i + k;
        }
      }
    }
  }
  return found;
}

template <class T>
void race_keys(const Scores& row, const int64_t* items, int64_t count, double max, Key key, double* keys) {
  const T* data = static_cast<const T*>(row.data);
  for (int64_t begin = 0; begin < count; begin += kLanes) {
    const int64_t lanes = count - begin < kLanes ? count - begin : kLanes;
    uint64_t item[kLanes];
    uint32_t high[kLanes], low[kLanes];
    double score[kLanes], value[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) {
      item[j] = static_cast<uint64_t>(items[begin + (j < lanes ? j : 0)]);
      score[j] = static_cast<double>(to_float(data[item[j]])) - max;
    }
    for (int64_t j = 0; j < kLanes; ++j) high[j] = word(key.seed, item[j], key.row, kRace);
    for (int64_t j = 0; j < kLanes; ++j) low[j] = word(key.seed, item[j], key.row, kRace + 1);
    for (int64_t j = 0; j < kLanes; ++j) value[j] = score[j] - exact::log_exponential(high[j], low[j]);
    for (int64_t j = 0; j < lanes; ++j) keys[begin + j] = value[j];
  }
}

template <class T>
void masses(const Scores& scores, int64_t items, double max, int bits, uint64_t* out) {
  using R = Real<T>;
  R block[kBlock];
  const double unit = static_cast<double>(uint64_t{1} << bits);
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    load<T>(scores, begin, count, block);
    for (int64_t i = 0; i < count; ++i) {
      const double x = static_cast<double>(block[i]);
      const int64_t mass = static_cast<int64_t>(exact::exp(x > -kInf ? x - max : -kInf) * unit);
      out[begin + i] = static_cast<uint64_t>(x > -kInf ? (mass > 1 ? mass : 1) : 0);
    }
  }
}

// 1 - exp(-x) for x >= 0 without cancellation, and its logarithm.
ZK_INLINE double log_filled(double x) {
  double series = 1.0 / 6227020800.0;
  constexpr double terms[] = {-1.0 / 479001600, 1.0 / 39916800, -1.0 / 3628800, 1.0 / 362880, -1.0 / 40320, 1.0 / 5040,
                              -1.0 / 720,       1.0 / 120,      -1.0 / 24,      1.0 / 6,      -1.0 / 2,     1.0};
  for (const double c : terms) series = series * x + c;
  const double filled = x < 0.25 ? x * series : 1.0 - exact::exp(-x);
  return exact::log(filled);
}

double log_integrand(const double* c, int64_t count, double t, double* terms) {
  const double s = std::exp(t);
  double lanes[8] = {};
  int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    double value[8];
    for (int64_t k = 0; k < 8; ++k) value[k] = log_filled(c[j + k] * s);
    for (int64_t k = 0; k < 8; ++k) lanes[k] += value[k];
    if (terms) memcpy(terms + j, value, sizeof(value));
  }
  for (; j < count; ++j) {
    const double value = log_filled(c[j] * s);
    lanes[0] += value;
    if (terms) terms[j] = value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return t - s + sum;
}

void add_ratios(const double* terms, int64_t count, double value, double* ratio) {
  for (int64_t j = 0; j < count; ++j) ratio[j] += exact::exp(value - terms[j]);
}

template <class T>
void softmax_backward(const Scores& scores, int64_t items, double lse, double total, void* grad) {
  using R = Real<T>;
  R block[kBlock];
  T* out = static_cast<T*>(grad);
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    load<T>(scores, begin, count, block);
    const R scale = static_cast<R>(-total);
    for (int64_t i = 0; i < count; ++i) {
      const R x = static_cast<R>(static_cast<double>(block[i]) - lse);
      out[begin + i] = from_float<T>(scale * exp_of(x < 0 ? x : R{0}));
    }
  }
}

#include "cpu/kernels_read.inl"
#include "cpu/kernels_pool.inl"

#define ZK_BY_TYPE(function, ...) with_float(dtype, [&](auto t) { return function<decltype(t)>(__VA_ARGS__); })

Scan scan_any(const Scores& s, int64_t items) {
  const int64_t dtype = s.dtype;
  return ZK_BY_TYPE(scan, s, items);
}
double sum_exp_any(const Scores& s, int64_t items, double max) {
  const int64_t dtype = s.dtype;
  return ZK_BY_TYPE(sum_exp, s, items, max);
}
int64_t survivors_any(const Scores& s, int64_t first, int64_t items, double max, double bound, Key key, int64_t* out) {
  const int64_t dtype = s.dtype;
  return ZK_BY_TYPE(survivors, s, first, items, max, bound, key, out);
}
void race_keys_any(const Scores& s, const int64_t* items, int64_t count, double max, Key key, double* keys) {
  const int64_t dtype = s.dtype;
  ZK_BY_TYPE(race_keys, s, items, count, max, key, keys);
}
void masses_any(const Scores& s, int64_t items, double max, int bits, uint64_t* out) {
  const int64_t dtype = s.dtype;
  ZK_BY_TYPE(masses, s, items, max, bits, out);
}
void softmax_backward_any(const Scores& s, int64_t items, double lse, double total, void* grad) {
  const int64_t dtype = s.dtype;
  ZK_BY_TYPE(softmax_backward, s, items, lse, total, grad);
}
void pool_any(const void* features, int64_t dtype, int64_t draws, int64_t width, const double* weight, int64_t first,
              int64_t last, void* pooled) {
  ZK_BY_TYPE(pool, features, draws, width, weight, first, last, pooled);
}
double pool_backward_any(const void* g, const void* f, const void* b, int64_t dtype, int64_t width, double weight,
                         void* grad) {
  return ZK_BY_TYPE(pool_backward, g, f, b, width, weight, grad);
}

#define ZK_STRING_(x) #x
#define ZK_STRING(x) ZK_STRING_(x)

}  // namespace

extern const Kernels table;
const Kernels table = {ZK_STRING(ZK_ISA), scan_any,      sum_exp_any,          survivors_any, race_keys_any, masses_any,
                       log_integrand,     add_ratios,    softmax_backward_any, read_rows,     pool_any,
                       pool_backward_any};

}  // namespace zoomkern::ZK_ISA

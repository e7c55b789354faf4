// Compiled once per instruction set, in a namespace of its own (ZK_ISA). Loops are written so that the compiler
// vectorises them; sums run over a fixed number of lanes, so that every instruction set adds in the same order.
#include "cpu/kernels.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/exact.hpp"
#include "core/philox.hpp"

#if defined(__SSE2__)
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
    case kFloat16:
      return body(Half{});
    case kBfloat16:
      return body(Bfloat{});
    case kFloat32:
      return body(float{});
    default:
      return body(double{});
  }
}

// The scores of a block, -inf where nothing may be drawn and behind `count`: in the buffer, or where they lie if they
// can be read there.
template <class T>
ZK_INLINE const Real<T>* load(const Scores& scores, int64_t begin, int64_t count, Real<T>* buffer) {
  constexpr Real<T> lowest = -std::numeric_limits<Real<T>>::infinity();
  const T* data = static_cast<const T*>(scores.data) + begin;
  if constexpr (std::is_same_v<T, Real<T>>) {
    if (!scores.mask && count == kBlock) return data;
  }
  for (int64_t i = 0; i < count; ++i) buffer[i] = static_cast<Real<T>>(to_float(data[i]));
  if (scores.mask) {
    const uint8_t* mask = reinterpret_cast<const uint8_t*>(scores.mask) + begin;
    for (int64_t i = 0; i < count; ++i) buffer[i] = mask[i] ? buffer[i] : lowest;
  }
  for (int64_t i = count; i < kBlock; ++i) buffer[i] = lowest;
  return buffer;
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
  R buffer[kBlock], top[kLanes];
  int64_t drawable = 0;
  bool wrong = false;
  for (int64_t j = 0; j < kLanes; ++j) top[j] = lowest;
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    R open[kLanes] = {}, bad[kLanes] = {};  // counted in the type of the scores, so that one vector width serves all
    for (int64_t i = 0; i < count; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const R x = block[i + j];
        top[j] = x > top[j] ? x : top[j];
        open[j] += x > lowest ? R{1} : R{0};
        bad[j] += x <= std::numeric_limits<R>::max() ? R{0} : R{1};
      }
    }
    for (int64_t j = 0; j < kLanes; ++j) {
      drawable += static_cast<int64_t>(open[j]);
      wrong |= bad[j] > 0;
    }
  }
  R max = lowest;
  for (int64_t j = 0; j < kLanes; ++j) max = top[j] > max ? top[j] : max;
  return {static_cast<double>(max), drawable, wrong};
}

template <class T>
double sum_exp(const Scores& scores, int64_t items, double max) {
  using R = Real<T>;
  R buffer[kBlock];
  double total = 0;
  const R top = static_cast<R>(max);
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    R lanes[kLanes] = {};
    for (int64_t i = 0; i < count; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) lanes[j] += exp_of(block[i + j] - top);
    }
    for (int64_t j = 0; j < kLanes; ++j) total += lanes[j];
  }
  return total;
}

// Philox on vectors of 64-bit lanes, each of which holds one 32-bit word in its lower half: a product then needs no
// shuffle, and what gathers in the upper halves is never read.
#if defined(__AVX512F__)
constexpr int64_t kWordLanes = 8;
#elif defined(__AVX2__)
constexpr int64_t kWordLanes = 4;
#else
constexpr int64_t kWordLanes = 2;
#endif
typedef uint64_t WordVector __attribute__((vector_size(8 * kWordLanes)));

ZK_INLINE WordVector multiply_low_halves(WordVector a, uint64_t m) {
#if defined(__AVX512F__)
  return reinterpret_cast<WordVector>(
      _mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi64(static_cast<long long>(m))));
#elif defined(__AVX2__)
  return reinterpret_cast<WordVector>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(static_cast<long long>(m))));
#elif defined(__SSE2__)
  return reinterpret_cast<WordVector>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(static_cast<long long>(m))));
#else
  return (a & 0xFFFFFFFFu) * m;
#endif
}

// c[0] and c[1] are the halves of the group; on return c holds the four words.
ZK_INLINE void philox_lanes(WordVector c[4], Key key, uint32_t stream) {
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  c[2] = WordVector{} + key.row;
  c[3] = WordVector{} + stream;
  for (int round = 0; round < 10; ++round) {
    const WordVector a = multiply_low_halves(c[0], 0xD2511F53u), b = multiply_low_halves(c[2], 0xCD9E8D57u);
    c[0] = (b >> 32) ^ c[1] ^ k0;
    c[2] = (a >> 32) ^ c[3] ^ k1;
    c[1] = b;
    c[3] = a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// The first words of kWordLanes groups of four items, in the order of the items.
ZK_INLINE void race_words(Key key, uint64_t group, uint32_t* out) {
  // Lanes are dealt so that joining pairs of words, and then pairs of pairs, leaves the items in order.
  WordVector deal, c[4];
  for (int64_t j = 0; j < kWordLanes; ++j) deal[j] = static_cast<uint64_t>(j % 2 ? kWordLanes / 2 + j / 2 : j / 2);
  c[0] = deal + group;  // groups that start at a multiple of 16 share their upper word
  c[1] = WordVector{} + (group >> 32);
  philox_lanes(c, key, kRace);
  const WordVector front = (c[0] & 0xFFFFFFFFu) | (c[1] << 32), back = (c[2] & 0xFFFFFFFFu) | (c[3] << 32);
#if defined(__AVX512F__)
  const WordVector low = __builtin_shufflevector(front, back, 0, 8, 2, 10, 4, 12, 6, 14);
  const WordVector high = __builtin_shufflevector(front, back, 1, 9, 3, 11, 5, 13, 7, 15);
#elif defined(__AVX2__)
  const WordVector low = __builtin_shufflevector(front, back, 0, 4, 2, 6);
  const WordVector high = __builtin_shufflevector(front, back, 1, 5, 3, 7);
#else
  const WordVector low = __builtin_shufflevector(front, back, 0, 2);
  const WordVector high = __builtin_shufflevector(front, back, 1, 3);
#endif
  memcpy(out, &low, sizeof(low));
  memcpy(out + 2 * kWordLanes, &high, sizeof(high));
}

// Bit j tells whether byte j of 64 is 1; they are all 0 or 1.
ZK_INLINE uint64_t bits_of(const uint8_t* bytes) {
#if defined(__AVX512BW__)
  const __m512i all = _mm512_loadu_si512(bytes);
  return _mm512_test_epi8_mask(all, all);
#elif defined(__SSE2__)
  uint64_t bits = 0;
  for (int64_t k = 0; k < 4; ++k) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes) + k);
    bits |= static_cast<uint64_t>(_mm_movemask_epi8(_mm_slli_epi16(part, 7))) << 16 * k;
  }
  return bits;
#else
  uint64_t bits = 0;
  for (int64_t k = 0; k < 8; ++k) {
    uint64_t part;
    memcpy(&part, bytes + 8 * k, 8);
    bits |= part * 0x0102040810204080u >> 56 << 8 * k;
  }
  return bits;
#endif
}

// Writes first + j for every j that is kept (1, others are 0); few are. `count` is a multiple of 64.
ZK_INLINE int64_t collect(const uint8_t* kept, int64_t count, int64_t first, int64_t* out) {
  int64_t found = 0;
  for (int64_t j = 0; j < count; j += 64) {
    for (uint64_t bits = bits_of(kept + j); bits; bits &= bits - 1) out[found++] = first + j + __builtin_ctzll(bits);
  }
  return found;
}

// An item is rejected when u >= exp(score - max) * bound, in logarithms of base two: the bits of a float, read as an
// integer, are 2^23 times a lower bound of its logarithm plus 127, too low by at most 0.09. The first 31 bits of u are
// a lower bound of u, so that only the rounding of the other side needs the margin. Of u = 0 the bits say 2^-158, which
// rejects only where the other side is less than that; u is never below 2^-65.
template <class T>
int64_t survivors(const Scores& scores, int64_t first, int64_t items, double max, double bound, Key key, int64_t* out) {
  using R = Real<T>;
  constexpr int64_t group = 4 * kLanes;
  constexpr double margin = 0x1p-10, unit = 0x1p23;
  const R top = static_cast<R>(max);
  const float slope = static_cast<float>(1.4426950408889634 * unit);
  const float rise = static_cast<float>((std::log2(bound) + 31 + 127 + margin) * unit);
  int64_t found = 0;
  R buffer[kBlock];
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    for (int64_t i = 0; i < count; i += group) {
      uint32_t words[group];
      uint8_t kept[group];
      for (int64_t j = 0; j < group; j += 4 * kWordLanes) {
        race_words(key, static_cast<uint64_t>(first + begin + i + j) >> 2, words + j);
      }
      for (int64_t j = 0; j < group; ++j) {
        const float u = static_cast<float>(static_cast<int32_t>(words[j] >> 1));
        kept[j] = static_cast<float>(bit_cast<int32_t>(u)) < static_cast<float>(block[i + j] - top) * slope + rise;
      }
      found += collect(kept, group, first + begin + i, out + found);
    }
  }
  return found;
}

template <class T>
int64_t above(const Scores& scores, int64_t first, int64_t items, double bound, int64_t* out) {
  using R = Real<T>;
  R buffer[kBlock];
  uint8_t kept[kBlock];
  int64_t found = 0;
  const R least = static_cast<R>(bound);  // exact: the bound is a score
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    for (int64_t i = 0; i < kBlock; ++i) kept[i] = block[i] > least;
    found += collect(kept, kBlock, first + begin, out + found);
  }
  return found;
}

// One word for each of kWordLanes items that need not be neighbours.
ZK_INLINE void words_of(Key key, const uint64_t* item, uint32_t stream, uint32_t* out) {
  WordVector c[4];
  for (int64_t j = 0; j < kWordLanes; ++j) c[0][j] = item[j] >> 2;
  c[1] = c[0] >> 32;
  philox_lanes(c, key, stream);
  uint64_t words[4][kWordLanes];
  memcpy(words, c, sizeof(words));
  for (int64_t j = 0; j < kWordLanes; ++j) out[j] = static_cast<uint32_t>(words[item[j] & 3][j]);
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
    for (int64_t j = 0; j < kLanes; j += kWordLanes) {
      words_of(key, item + j, kRace, high + j);
      words_of(key, item + j, kRace + 1, low + j);
    }
    for (int64_t j = 0; j < kLanes; ++j) value[j] = score[j] - exact::log_exponential(high[j], low[j]);
    for (int64_t j = 0; j < lanes; ++j) keys[begin + j] = value[j];
  }
}

// Every pair is compared: among few keys that is faster than branches which nobody can predict.
void rank(const double* __restrict keys, int64_t count, int64_t* __restrict ranks) {
  const int64_t padded = (count + 7) / 8 * 8;
  int64_t sum = 0;
  for (int64_t i = 0; i < padded; ++i) ranks[i] = 0;
  for (int64_t j = 0; j < count; ++j) {
    const double key = keys[j];
    for (int64_t i = 0; i < padded; ++i) ranks[i] += key > keys[i];
  }
  for (int64_t i = 0; i < count; ++i) sum += ranks[i];
  if (2 * sum == count * (count - 1)) return;
  for (int64_t j = 0; j < count; ++j) {  // some keys are equal
    for (int64_t i = j + 1; i < count; ++i) ranks[i] += keys[j] == keys[i];
  }
}

template <class T>
void masses(const Scores& scores, int64_t items, double max, int bits, uint64_t* out) {
  using R = Real<T>;
  R buffer[kBlock];
  const double unit = static_cast<double>(uint64_t{1} << bits);
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    for (int64_t i = 0; i < count; ++i) {
      const double x = static_cast<double>(block[i]);
      const double mass = exact::exp(x > -kInf ? x - max : -kInf) * unit;
      const double least = x > -kInf ? (mass > 1.0 ? mass : 1.0) : 0.0;
      out[begin + i] = bit_cast<uint64_t>(least + 0x1p52) - bit_cast<uint64_t>(0x1p52);  // rounds, for masses <= 2^52
    }
  }
}

double log_filled_sum(const double* c, int64_t count, double s, double* filled) {
  for (int64_t j = 0; j < count; ++j) {
    const double x = c[j] * s;
    filled[j] = exact::one_minus_exp(x);
  }
  double lanes[8] = {};
  const int64_t pairs = count / 16 * 16;
  for (int64_t j = 0; j < pairs; j += 16) {
    for (int64_t k = 0; k < 8; ++k) lanes[k] += exact::log(filled[j + k] * filled[j + 8 + k]);
  }
  double sum = 0;
  for (int64_t j = pairs; j < count; ++j) sum += exact::log(filled[j]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

template <class T>
void softmax_backward(const Scores& scores, int64_t items, const double* lse, double total, void* grad) {
  using R = Real<T>;
  R buffer[kBlock];
  T* out = static_cast<T*>(grad);
  const double max = lse[0], log_sum = lse[1];
  for (int64_t begin = 0; begin < items; begin += kBlock) {
    const int64_t count = items - begin < kBlock ? items - begin : kBlock;
    const R* block = load<T>(scores, begin, count, buffer);
    const R scale = static_cast<R>(-total);
    for (int64_t i = 0; i < count; ++i) {
      const R x = static_cast<R>((static_cast<double>(block[i]) - max) - log_sum);
      out[begin + i] = from_float<T>(scale * exp_of(x < 0 ? x : R{0}));
    }
  }
}

#include "cpu/kernels_pool.inl"
#include "cpu/kernels_read.inl"

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
int64_t above_any(const Scores& s, int64_t first, int64_t items, double bound, int64_t* out) {
  const int64_t dtype = s.dtype;
  return ZK_BY_TYPE(above, s, first, items, bound, out);
}
void race_keys_any(const Scores& s, const int64_t* items, int64_t count, double max, Key key, double* keys) {
  const int64_t dtype = s.dtype;
  ZK_BY_TYPE(race_keys, s, items, count, max, key, keys);
}
void masses_any(const Scores& s, int64_t items, double max, int bits, uint64_t* out) {
  const int64_t dtype = s.dtype;
  ZK_BY_TYPE(masses, s, items, max, bits, out);
}
void softmax_backward_any(const Scores& s, int64_t items, const double* lse, double total, void* grad) {
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
const Kernels table = {ZK_STRING(ZK_ISA), scan_any, sum_exp_any,      survivors_any,  above_any,
                       race_keys_any,     rank,     masses_any,       log_filled_sum, softmax_backward_any,
                       read_rows,         pool_any, pool_backward_any};

}  // namespace zoomkern::ZK_ISA

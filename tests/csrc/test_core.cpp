// The headers that every backend shares, against wider arithmetic and against counting: no torch, no Python.
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <limits>

#include "core/exact.hpp"
#include "core/image.hpp"
#include "core/philox.hpp"

namespace zoomkern {
namespace {

int failures = 0;

void check(bool holds, const char* what, double at) {
  if (holds) return;
  if (++failures <= 20) std::printf("failed: %s at %.17g\n", what, at);
}

// A cheap generator of test points, unrelated to what is tested.
uint64_t next() {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

// Known answers of Random123.
void test_philox() {
  const Words zeros = philox(0, 0, 0, 0), ones = philox(~0ull, ~0ull, ~0u, ~0u);
  const uint32_t of_zeros[] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
  const uint32_t of_ones[] = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
  for (int i = 0; i < 4; ++i) check(zeros.w[i] == of_zeros[i] && ones.w[i] == of_ones[i], "philox", i);
  for (uint64_t item = 0; item < 64; ++item) {
    check(word(7, item, 3, kRace) == philox(7, item / 4, 3, kRace).w[item % 4], "word", static_cast<double>(item));
  }
  for (int i = 0; i < 100000; ++i) {
    const uint64_t seed = next(), item = next(), bound = next() >> (next() % 64);
    const uint64_t bits = static_cast<uint64_t>(word(seed, item, 1, 2)) << 32 | word(seed, item, 1, 3);
    const auto wanted = static_cast<uint64_t>(static_cast<unsigned __int128>(bits) * bound >> 64);
    check(uniform_below(seed, item, 1, 2, bound) == wanted, "uniform_below", i);
  }
}

void test_exact() {
  const double last = std::numeric_limits<double>::epsilon();
  for (int i = 0; i < 1000000; ++i) {
    const double x = -700.0 * static_cast<double>(next() >> 11) * 0x1p-53;
    check(std::abs(exact::exp(x) / std::exp(static_cast<long double>(x)) - 1) < 2 * last, "exp", x);
    const double y =
        std::ldexp(1.0 + static_cast<double>(next() >> 12) * 0x1p-52, static_cast<int>(next() % 2000) - 1000);
    const long double wanted = std::log(static_cast<long double>(y));
    check(std::abs(exact::log(y) - wanted) <= 2 * last * std::fmax(1.0L, std::abs(wanted)), "log", y);
  }
  check(exact::exp(0) == 1 && exact::log(1) == 0 && exact::exp(-701) == 0, "exp and log of the ends", 0);
}

void test_halves() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half = {static_cast<uint16_t>(bits)};
    const float wide = to_float(half);
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    if (exponent == 31) {
      check(fraction ? wide != wide : std::isinf(wide), "special half", bits);
    } else {
      const double size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
      check(wide == static_cast<float>(bits >> 15 ? -size : size), "half to float", bits);
    }
    if (wide == wide) check(to_half(wide).bits == bits, "float to half", bits);
  }
  for (int i = 0; i < 1000000; ++i) {  // no other half is nearer, and of two that are as near the even one is taken
    const float x = bit_cast<float>(static_cast<uint32_t>(next()));
    const Half half = to_half(x);
    if (x != x || (half.bits & 0x7FFF) >= 0x7C00 || (half.bits & 0x7FFF) == 0) continue;
    const double error = std::abs(static_cast<double>(to_float(half)) - x);
    for (const int step : {-1, 1}) {
      const double other = std::abs(static_cast<double>(to_float(Half{static_cast<uint16_t>(half.bits + step)})) - x);
      check(error < other || (error == other && half.bits % 2 == 0), "nearest half", x);
    }
  }
}

void test_windows() {
  for (int i = 0; i < 200000; ++i) {
    const int64_t pixels = static_cast<int64_t>(next() % 50 + 1), size = static_cast<int64_t>(next() % 12 + 1),
                  step = static_cast<int64_t>(next() % 5 + 1), offset = static_cast<int64_t>(next() % 200) - 100;
    int64_t first = size, count = 0;
    for (int64_t k = 0; k < size; ++k) {
      const int64_t at = offset + k * step;
      if (at < 0 || at >= pixels) continue;
      first = count++ ? first : k;
    }
    const Span span = inside(offset, pixels, size, step);
    check(span.last - span.first == count && (!count || span.first == first), "inside", static_cast<double>(offset));
    const int64_t moved = shift_inside(offset, pixels, size, step), reach = (size - 1) * step + 1;
    const bool fits = reach <= pixels ? moved >= 0 && moved + reach <= pixels : moved <= 0 && moved + reach >= pixels;
    check(fits, "shift_inside", static_cast<double>(offset));
    const int64_t cells = static_cast<int64_t>(next() % 9 + 1), cell = static_cast<int64_t>(next() % cells);
    const double middle = (static_cast<double>(cell) + 0.5) * static_cast<double>(pixels) / static_cast<double>(cells);
    const double start = middle - static_cast<double>(size * step) / 2;
    check(cell_offset(cell, cells, pixels, size * step, false) == static_cast<int64_t>(std::floor(start + 1e-9)),
          "cell_offset", start);
  }
  const int64_t least = std::numeric_limits<int64_t>::min(), most = std::numeric_limits<int64_t>::max();
  for (const int64_t far : {least, most, kPaddedOffset}) {
    const Span span = inside(far, int64_t{1} << 31, int64_t{1} << 31, 3);
    check(span.first == span.last, "inside of a far window", static_cast<double>(far));
  }
  check(floor_div(-7, 2) == -4 && floor_div(7, 2) == 3 && floor_div(-8, 2) == -4, "floor_div", 0);
}

}  // namespace
}  // namespace zoomkern

int main() {
  zoomkern::test_philox();
  zoomkern::test_exact();
  zoomkern::test_halves();
  zoomkern::test_windows();
  std::printf("%d failures\n", zoomkern::failures);
  return zoomkern::failures != 0;
}

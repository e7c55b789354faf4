// Philox4x32-10: which random word belongs to which item. The contract is told in zoomkern/reference/random.py.
#pragma once

#include "core/target.hpp"

namespace zoomkern {

enum Stream : uint32_t { kRace = 0, kThreshold = 2, kReplacement = 4 };

struct Words {
  uint32_t w[4];
};

ZK_INLINE Words philox(uint64_t seed, uint64_t group, uint32_t row, uint32_t stream) {
  uint32_t c0 = static_cast<uint32_t>(group), c1 = static_cast<uint32_t>(group >> 32), c2 = row, c3 = stream;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = static_cast<uint64_t>(c0) * 0xD2511F53u, b = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(b);
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The word of one item.
ZK_INLINE uint32_t word(uint64_t seed, uint64_t item, uint32_t row, uint32_t stream) {
  const Words words = philox(seed, item >> 2, row, stream);
  const uint32_t low = (item & 1) ? words.w[1] : words.w[0], high = (item & 1) ? words.w[3] : words.w[2];
  return (item & 2) ? high : low;
}

// floor(bits * bound / 2^64) for the 64 bits that an item has in a pair of streams.
ZK_INLINE uint64_t uniform_below(uint64_t seed, uint64_t item, uint32_t row, uint32_t stream, uint64_t bound) {
  const uint64_t high = word(seed, item, row, stream), low = word(seed, item, row, stream + 1);
  const uint64_t bound_high = bound >> 32, bound_low = bound & 0xFFFFFFFFu;
  const uint64_t p00 = low * bound_low, p01 = low * bound_high, p10 = high * bound_low, p11 = high * bound_high;
  const uint64_t middle = (p00 >> 32) + (p01 & 0xFFFFFFFFu) + (p10 & 0xFFFFFFFFu);
  return p11 + (p01 >> 32) + (p10 >> 32) + (middle >> 32);
}

}  // namespace zoomkern

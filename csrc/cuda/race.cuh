// Who can be among the first: the race of Gumbel sampling, and the plain order of scores. Either is a contest, whose
// largest keys win; a sieve rejects most items by a bound, without their keys. ranking.cuh ranks the others.
#pragma once

#include "core/philox.hpp"
#include "cuda/bins.cuh"
#include "cuda/rows.cuh"
#include "cuda/selection.cuh"

namespace zoomkern::cuda {

constexpr double kLog2e = 1.4426950408889634;

// More than the arrivals that are wanted: they scatter as a Poisson variate, or less.
ZK_INLINE double ample(int64_t draws) {
  const double n = static_cast<double>(draws);
  return n + 6 * sqrt(n) + 16;
}

// Room for those whom a bound leaves.
inline int64_t room_for(int64_t draws, int64_t items) {
  const int64_t wanted = 2 * static_cast<int64_t>(ample(draws)) + 256;
  return wanted < items ? wanted : items;
}

// An item arrives at time -log(1 - u) / w, where w = exp(score - max); the key is minus the logarithm of that.
template <class T>
struct Race {
  using R = Real<T>;

  Row<T> row;
  double max;
  Key random;

  __device__ __forceinline__ uint64_t key(int64_t item, R score) const { return ordered(number(item, score)); }

  __device__ __forceinline__ double number(int64_t item, R score) const {
    const uint64_t i = static_cast<uint64_t>(item);
    const uint32_t high = word(random.seed, i, random.row, kRace), low = word(random.seed, i, random.row, kRace + 1);
    return (static_cast<double>(score) - max) - exact::log_exponential(high, low);
  }

  // What `number` says to within kDoubt, and the roundings of its last bits; without a logarithm, unless the first word
  // says too little.
  static constexpr bool kGuesses = true;
  static constexpr double kDoubt = 0x1p-5;

  __device__ __forceinline__ double guess(int64_t item, R score) const {
    const uint32_t high = word(random.seed, static_cast<uint64_t>(item), random.row, kRace);
    if (high < kFirstTold || high > kLastTold) return number(item, score);
    return (static_cast<double>(score) - max) - static_cast<double>(rough_log_exponential(high));
  }

  static constexpr uint32_t kFirstTold = 1u << 8, kLastTold = ~(1u << 20);

  static __device__ __forceinline__ float rough_log_exponential(uint32_t high) {
    constexpr float nats = 0x1.62e43p-1f;
    const float u = (static_cast<float>(high) + 0.5f) * 0x1p-32f, rest = (static_cast<float>(~high) + 0.5f) * 0x1p-32f;
    const float series = u * (1 + u * (0.5f + u * (1.0f / 3 + u * (0.25f + u * 0.2f))));
    return nats * rough_log2(u < 0.5f ? series : -nats * rough_log2(rest));
  }

  // To within 0.01, of normal numbers.
  static __device__ __forceinline__ float rough_log2(float x) {
    const int bits = bit_cast<int>(x);
    const float m = bit_cast<float>((bits & 0x7FFFFF) | 0x3F800000) - 1;
    return static_cast<float>((bits >> 23) - 127) + m + 0.343f * m * (1 - m);
  }

  // Rejects by u >= w * exp(bound), in logarithms of base two, where `bound` is that of a time: -log(1 - u) is not
  // below u. The bits of a float, read as an integer, are 2^23 times a lower bound of its logarithm plus 127; the first
  // 31 bits of u are a lower bound of u, so that only the roundings need the margin. Those of the difference of scores
  // are relative: it is taken from a score `base` near the one that decides. Of u = 0 the bits say 2^-158, which
  // rejects only where the other side is less than that; u is never below 2^-65. Of the few whom u lets pass, the first
  // terms of -log(1 - u) reject a third where most items arrive.
  struct Sieve {
    Key random;
    R base;
    float rise;

    template <class F>
    __device__ __forceinline__ void pass(int64_t item, const R (&score)[kFour], F keep) const {
      constexpr float slope = static_cast<float>(kLog2e * 0x1p23);
      const Words words = philox(random.seed, static_cast<uint64_t>(item) >> 2, random.row, kRace);
#pragma unroll
      for (int k = 0; k < kFour; ++k) {
        const float u = static_cast<float>(static_cast<int32_t>(words.w[k] >> 1));
        const float other = static_cast<float>(score[k] - base) * slope + rise;
        if (static_cast<float>(bit_cast<int32_t>(u)) < other) {
          const float share = u * 0x1p-31f, time = u * (1 + share * (0.5f + share * 0x1.5p-2f));
          if (static_cast<float>(bit_cast<int32_t>(time)) < other) keep(item + k);
        }
      }
    }
  };

  // Everybody may pass a bound of +inf.
  __device__ __forceinline__ Sieve sieve(double bound) const {
    constexpr double margin = 0x1p-10;
    if (bound > kMostBound) return {random, 0, std::numeric_limits<float>::infinity()};
    const R base = static_cast<R>(max - bound);
    const double shift = (static_cast<double>(base) - max) + bound;
    return {random, base, static_cast<float>((shift * kLog2e + (31 + 127 + margin)) * 0x1p23)};
  }

  // No key of an item that the sieve rejected is as large.
  __device__ __forceinline__ uint64_t least(double bound) const { return bound > kMostBound ? 0 : ordered(-bound); }

  // How likely an item, or the heaviest of a part, arrives before a time.
  static __device__ __forceinline__ double arrives(double log_weight, double log_time) {
    const double x = log_weight + log_time;
    return static_cast<double>(-expm1f(-expf(static_cast<float>(x < 5 ? x : 5))));
  }

  // How many of a part arrive at least: as many as if its mass lay in items as heavy as its heaviest.
  static __device__ __forceinline__ double arrive(const Part& part, const Part& whole, double log_time) {
    return part.sum * arrives(part.max - whole.max, log_time);
  }

  // The logarithm of a time before which enough items are expected: +inf for everybody, NaN if none can be told.
  template <class Team>
  static __device__ double bound(const Team& team, const Part* parts, int64_t count, const Part& whole, int64_t draws,
                                 int64_t room) {
    return find_bound(team, whole, draws, room, 2.0, [&](double log_time) {
      double sum = 0;
      for (int64_t i = team.rank(); i < count; i += Team::kSize) sum += arrive(parts[i], whole, log_time);
      return sum;
    });
  }

  // The bins that a closer bound takes; none where a bound is close. No more items arrive than there is mass.
  template <class Team>
  static __device__ Bins bins(const Team& team, unsigned long long* histogram, const Part* parts, int64_t count,
                              const Part& whole, int64_t draws, double bound) {
    constexpr double most = 1.2;
    if (bound > kMostBound || bound + exact::log(whole.sum) <= exact::log(most * ample(draws))) return {};
    const int64_t filled = count_filled(team, parts, count);
    return Bins::around(whole.max, reached_by(team, histogram, parts, count, (filled + 3) / 4), Bins::kPerNat);
  }

  // Whether a part is known well enough without its items: even before a loose bound hardly any of them arrives.
  static __device__ __forceinline__ bool is_known(const Part& part, const Part& whole, double bound) {
    return part.max - whole.max + bound < -2;
  }

  // The bound from the items of all other parts, `counts` of which are in each bin.
  template <class Team>
  static __device__ double close_bound(const Team& team, const Bins& bins, const unsigned* counts, const Part* parts,
                                       int64_t count, const Part& whole, int64_t draws, int64_t room, double bound) {
    const double closer = find_bound(team, whole, draws, room, 1.0, [&](double log_time) {
      double sum = 0;
      for (int i = team.rank(); i < Bins::kCount; i += Team::kSize) {
        sum += static_cast<double>(counts[i]) * arrives(-bins.depth(i), log_time);
      }
      for (int64_t i = team.rank(); i < count; i += Team::kSize) {
        if (is_known(parts[i], whole, bound)) sum += arrive(parts[i], whole, log_time);
      }
      return sum;
    });
    return closer < bound || bound != bound ? closer : bound;
  }

  // The same from every item, where parts tell too little: peaks hide what lies around them.
  template <class Team>
  __device__ double close_bound(const Team& team, const Part& whole, int64_t draws, int64_t room) const {
    return find_bound(team, whole, draws, room, 1.2, [&](double log_time) {
      double sum = 0;
#pragma unroll 1
      for (int64_t i = team.rank(); i < row.items; i += Team::kSize) {
        sum += arrives(static_cast<double>(row.at(i)) - max, log_time);
      }
      return sum;
    });
  }

  // `share` is a thread's share of the items that are expected before a time; not many more than `most` times what is
  // ample are accepted.
  template <class Team, class F>
  static __device__ double find_bound(const Team& team, const Part& whole, int64_t draws, int64_t room, double most,
                                      F share) {
    const double wanted = ample(draws);
    if (static_cast<double>(whole.drawable) <= 2 * wanted) return kEverybody;
    const auto expected = [&](double log_time) { return team.reduce(share(log_time), Sum()); };
    const double n = static_cast<double>(draws), enough = n + 4 * sqrt(n) + 8;
    double low = exact::log(wanted / whole.sum), high = low, step = 0.125, count_at = expected(low);
    const bool ever = count_at >= enough || expected(kMostBound) >= enough;
    while (ever && count_at < enough && high < kMostBound) {
      low = high;
      high += step;
      step *= 2;
      count_at = expected(high);
    }
    while (count_at > most * wanted && high - low > 0x1p-4) {
      const double middle = 0.5 * (low + high), count_there = expected(middle);
      if (count_there < enough) {
        low = middle;
      } else {
        high = middle;
        count_at = count_there;
      }
    }
    // Beyond 512 the roundings of Sieve might exceed its margin.
    const double shift = (static_cast<double>(static_cast<R>(whole.max - high)) - whole.max) + high;
    if (count_at >= enough && high <= kMostBound && shift < 512 && shift > -512) return high;
    return whole.drawable <= room ? kEverybody : std::numeric_limits<double>::quiet_NaN();
  }

  static constexpr double kEverybody = std::numeric_limits<double>::infinity(), kMostBound = 0x1p20;
};

// The plain order of scores.
template <class T>
struct Top {
  using R = Real<T>;
  static constexpr bool kGuesses = false;

  __device__ __forceinline__ uint64_t key(int64_t, R score) const { return ordered(static_cast<double>(score)); }

  // Short rows have nothing closer.
  template <class Team>
  __device__ double close_bound(const Team&, const Part&, int64_t, int64_t) const {
    return std::numeric_limits<double>::quiet_NaN();
  }

  struct Sieve {
    R least;

    template <class F>
    __device__ __forceinline__ void pass(int64_t item, const R (&score)[kFour], F keep) const {
#pragma unroll
      for (int k = 0; k < kFour; ++k) {
        if (score[k] >= least && score[k] > kLowest<R>) keep(item + k);
      }
    }
  };

  __device__ __forceinline__ Sieve sieve(double bound) const { return {static_cast<R>(bound)}; }
  __device__ __forceinline__ uint64_t least(double bound) const { return ordered(bound); }

  // A score that as many parts reach as there are draws: -inf for everybody, NaN if there are too few parts.
  template <class Team>
  static __device__ double bound(const Team& team, unsigned long long* histogram, const Part* parts, int64_t count,
                                 const Part& whole, int64_t draws, int64_t room) {
    if (whole.drawable <= room) return kLowest<double>;
    if (count_filled(team, parts, count) < draws) return std::numeric_limits<double>::quiet_NaN();
    return reached_by(team, histogram, parts, count, draws);
  }

  // Parts tell how few items reach a bound, never how many. Bins reach down to it; if there is none they are narrow
  // beside what lies between the maxima of parts.
  template <class Team>
  static __device__ Bins bins(const Team& team, unsigned long long* histogram, const Part* parts, int64_t count,
                              const Part& whole, int64_t, double bound) {
    if (bound == kLowest<double> || bound == whole.max) return {};
    if (bound == bound) return {whole.max, Bins::kEven / (whole.max - bound), 1};
    const int64_t filled = count_filled(team, parts, count), quarter = (filled + 3) / 4;
    const double base = reached_by(team, histogram, parts, count, quarter);
    const double spread = base - reached_by(team, histogram, parts, count, Min()(3 * quarter, filled));
    return Bins::around(whole.max, base, spread > 0 ? Max()(16 / spread, Bins::kPerNat) : Bins::kPerNat);
  }

  static __device__ __forceinline__ bool is_known(const Part& part, const Part&, double bound) {
    return part.max < bound;
  }

  // The end of the bin in which the last of the draws is.
  template <class Team>
  static __device__ double close_bound(const Team& team, const Bins& bins, const unsigned* counts, const Part*, int64_t,
                                       const Part& whole, int64_t draws, int64_t, double bound) {
    constexpr int each = Bins::kCount / Team::kSize;
    const int first = team.rank() * each;
    int64_t own = 0, all;
    for (int i = 0; i < each; ++i) own += counts[first + i];
    int64_t seen = team.sum_before(own, all);
    double depth = std::numeric_limits<double>::infinity();
    for (int i = 0; i < each; ++i) {
      seen += counts[first + i];
      if (seen >= draws) depth = Min()(depth, bins.depth(first + i));
    }
    const double closer = whole.max - team.reduce(depth, Min());
    return closer <= bound ? bound : closer;
  }
};

}  // namespace zoomkern::cuda

// csrc/cuda/race.cuh, ranking.cuh: no item that could win is rejected, and whatever passes, the winners are the same.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "cuda/launch.hpp"
#include "cuda/race.cuh"
#include "cuda/ranking.cuh"

using namespace zoomkern;
using namespace zoomkern::cuda;

namespace {

int failures = 0;

void expect(bool condition, const char* what, double at) {
  if (condition) return;
  std::printf("failed: %s (%g)\n", what, at);
  ++failures;
}

std::mt19937_64 source(1);

template <class T>
std::vector<T> normal_scores(int64_t items, double scale, double offset) {
  std::normal_distribution<double> normal;
  std::vector<T> scores(items);
  for (T& score : scores) score = from_float<T>(static_cast<Real<T>>(normal(source) * scale + offset));
  return scores;
}

template <class T>
Race<T> race_of(const std::vector<T>& scores, Key key) {
  const int64_t items = static_cast<int64_t>(scores.size());
  Race<T> race = {Row<T>({scores.data(), nullptr, 0}, 0, items), kLowest<double>, key};
  for (int64_t i = 0; i < items; ++i) race.max = std::max(race.max, static_cast<double>(race.row.at(i)));
  return race;
}

// Bounds from before anybody arrives until everybody has.
template <class T>
void check_sieve(double scale, double offset) {
  constexpr int64_t items = 4000;
  const std::vector<T> scores = normal_scores<T>(items, scale, offset);
  const Race<T> race = race_of(scores, {source(), 3});
  for (double bound = -12; bound < std::min(8 * scale + 8, 1e5); bound += 0.37 + 0.1 * scale) {
    const auto sieve = race.sieve(bound);
    std::vector<bool> passed(items);
    for (int64_t i = 0; i < items; i += kFour) {
      Real<T> four[kFour];
      for (int k = 0; k < kFour; ++k) four[k] = race.row.at(i + k);
      sieve.pass(i, four, [&](int64_t item) { passed[item] = true; });
    }
    double arrivals = 0;
    for (int64_t i = 0; i < items; ++i) {
      expect(passed[i] || race.key(i, race.row.at(i)) < race.least(bound), "an item in time is rejected", bound);
      arrivals -= std::expm1(-std::exp(std::min(5.0, race.row.at(i) - race.max + bound)));
    }
    const double count = static_cast<double>(std::count(passed.begin(), passed.end(), true));
    expect(count <= 1.2 * arrivals + 6 * std::sqrt(arrivals) + 6, "the sieve lets too many pass", bound);
  }
}

// Guesses are as near as they say, whatever the word that they leave out.
void check_guesses() {
  using Float = Race<float>;
  double worst = 0;
  for (float x = 0x1p-32f; x < 64; x *= 1.0007f) {
    expect(std::abs(Float::rough_log2(x) - std::log2(x)) <= 0.01, "a rough logarithm is too rough", x);
  }
  const auto check = [&](uint32_t high) {
    const double rough = Float::rough_log_exponential(high);
    for (const uint32_t low : {0u, ~0u}) {
      const double error = std::abs(rough - exact::log_exponential(high, low));
      expect(error <= 0.8 * Float::kDoubt, "a guess is too wild", high);
      worst = std::max(worst, error);
    }
  };
  for (uint64_t high = Float::kFirstTold; high <= Float::kLastTold; high += high < 1u << 20 ? 1 : 4099) {
    check(static_cast<uint32_t>(high));
  }
  check(Float::kLastTold);
  expect(worst >= 0.3 * Float::kDoubt, "more is doubted than need be", worst);
}

template <class T>
void check_guesses_of_items(double scale, double offset) {
  const std::vector<T> scores = normal_scores<T>(4000, scale, offset);
  const Race<T> race = race_of(scores, {source(), 3});
  for (int64_t i = 0; i < 4000; ++i) {
    const double number = race.number(i, race.row.at(i));
    const double doubt = Race<T>::kDoubt + 0x1p-52 * std::abs(number);
    expect(std::abs(race.guess(i, race.row.at(i)) - number) <= doubt, "a guess is wrong", scale);
    expect(number_of(ordered(number)) == number, "an ordered number is another", number);
  }
}

// No item is deeper than its bin says, and bins are as narrow as promised.
void check_bins(double top, double base, double rate) {
  const Bins bins = Bins::around(top, base, rate);
  expect(bins.of(top) == 0 && bins.of(-1e300) == Bins::kCount - 1, "bins do not hold everything", rate);
  for (int bin = 1; bin < Bins::kCount; ++bin)
    expect(bins.depth(bin - 1) < bins.depth(bin), "bins are in no order", bin);
  std::exponential_distribution<double> depths;
  for (int i = 0; i < 10000; ++i) {
    const double score = (i % 2 ? top : base) - (i % 3 - 1) * depths(source) * 300 / rate;
    if (score > top) continue;
    const int bin = bins.of(score);
    const double below = top - score, steps = below * rate, around = (base - score) * rate;
    expect(bins.depth(bin) >= below, "an item is deeper than its bin", below);
    expect(bin == 0 || bins.depth(bin - 1) <= below * (1 + 0x1p-16), "an item belongs to a bin before", below);
    if (steps < Bins::kZone || (around > -100 && around < 100)) {
      expect(bins.depth(bin) - bins.depth(bin - 1 < 0 ? 0 : bin - 1) <= 1.01 / rate + below * 0x1p-16,
             "a bin is wide that must not be", below);
    }
  }
}

constexpr int64_t kRoom = 500, kFew = 256;

template <class Team, class T, class Contest>
void run_finish(const Row<T> row, const Contest contest, double bound, Runner* runners, int64_t count, int64_t draws,
                unsigned long long* counter, int64_t* index) {
  finish(Team(shared_at<void>(0)), row, contest, bound, runners, count, kRoom, draws, shared_at<Runner>(256), kFew,
         counter, index);
}

// The winners among those who pass a bound, whether or not it was wise.
template <class Team, class T>
void check_finish(const std::vector<T>& scores, int64_t draws, double bound, uint64_t seed = 7) {
  const Race<T> race = race_of(scores, {seed, 0});
  const int64_t items = static_cast<int64_t>(scores.size());
  std::vector<Runner> all;
  const std::unique_ptr<Runner[]> runners(new Runner[kRoom]);  // keys are set to nothing
  unsigned long long counter = 0;
  for (int64_t i = 0; i < items; ++i) {
    const uint64_t key = race.key(i, race.row.at(i));
    all.push_back({key, i});
    if (key >= race.least(bound) && counter++ < kRoom) runners[counter - 1].item = i;
  }
  std::sort(all.begin(), all.end(), Ahead());
  std::vector<int64_t> index(draws, -1);
  launch(run_finish<Team, T, Race<T>>, dim3(1), Team::kSize, 256 + kFew * sizeof(Runner), nullptr, race.row, race,
         bound, runners.get(), static_cast<int64_t>(counter), draws, &counter, index.data());
  for (int64_t j = 0; j < draws; ++j) expect(index[j] == all[j].item, "a winner is missing", bound);
}

// Runners that passed a bound which the last of them does not reach: one before it may have been rejected.
void check_verification() {
  const std::vector<float> scores = normal_scores<float>(300, 1, 0);
  const Race<float> race = race_of(scores, {7, 0});
  std::vector<Runner> all, runners(kRoom);
  for (int64_t i = 0; i < 300; ++i) all.push_back({race.key(i, race.row.at(i)), i});
  std::sort(all.begin(), all.end(), Ahead());
  for (int64_t i = 0; i < 20; ++i) runners[i].item = all[i + (i >= 8)].item;  // without the ninth
  unsigned long long counter = 20;
  std::vector<int64_t> index(10, -1);
  launch(run_finish<WarpTeam, float, Race<float>>, dim3(1), 32u, 256 + kFew * sizeof(Runner), nullptr, race.row, race,
         -50.0, runners.data(), int64_t{20}, int64_t{10}, &counter, index.data());
  for (int64_t j = 0; j < 10; ++j) expect(index[j] == all[j].item, "an unproven winner is taken", j);
}

}  // namespace

int main() {
  for (const double offset : {0.0, 300.0, -7000.0}) {
    for (const double scale : {0.0, 0.3, 2.0, 30.0, 800.0}) {
      check_sieve<float>(scale, offset);
      check_sieve<double>(scale, offset);
      check_sieve<Bfloat>(scale, offset);
      check_guesses_of_items<float>(scale, offset);
      check_guesses_of_items<double>(scale, offset);
    }
  }
  check_guesses();
  check_guesses_of_items<double>(1e300, 0);
  check_sieve<float>(0, 0x1p70);
  check_sieve<float>(1e30, 0);
  for (const int64_t draws : {1, 16, 200}) {
    for (const double bound : {-20.0, -3.0, -1.0, 0.0, 2.0, 30.0}) {
      check_finish<WarpTeam>(normal_scores<float>(700, 2, 0), draws, bound);
      check_finish<BlockTeam<128>>(normal_scores<double>(900, 0.1, 5), draws, bound);
      check_finish<WarpTeam>(normal_scores<Half>(1000, 20, 0), draws, bound);
    }
  }
  check_finish<WarpTeam>(normal_scores<double>(400, 1e306, 0), 16, 1e300);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    check_finish<WarpTeam>(normal_scores<float>(300, 1, 0), 64, 20, seed);
    for (const double far : {-3 * 0x1p49, -3 * 0x1p50}) {  // the last bits of keys decide
      std::vector<double> scores(200, far);
      scores[11] = 0;
      check_finish<BlockTeam<64>>(scores, 64, std::numeric_limits<double>::infinity(), seed);
    }
  }
  check_verification();
  for (const double base : {5.0, 4.0, -10.0, -90.0, -500.0, -1e6}) {
    for (const double rate : {8.0, 0.01, 1000.0}) check_bins(5, base, rate);
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}

// Who wins a contest, among the few whom a bound let pass, or among all items where it told too little.
#pragma once

#include "cuda/race.cuh"
#include "cuda/selection.cuh"

namespace zoomkern::cuda {

// What keys must reach that are to be ranked, where `draws` of `count` runners are wanted; the runners' keys become
// their guesses. Where guesses do not pay, all are ranked.
template <class Team, class T, class Contest>
__device__ uint64_t least_guess(const Team& team, const Row<T>& row, const Contest& contest, Runner* runners,
                                int64_t count, int64_t draws, unsigned long long* histogram) {
  if constexpr (Contest::kGuesses) {
    if (static_cast<double>(count) > ample(draws)) {
      for (int64_t i = team.rank(); i < count; i += Team::kSize) {
        runners[i].key = ordered(contest.guess(runners[i].item, row.at(runners[i].item)));
      }
      const Nth nth = nth_largest(team, histogram, draws, [&](auto see) {
        for (int64_t i = team.rank(); i < count; i += Team::kSize) see(runners[i].key);
      });
      const double last = number_of(nth.value);  // NaN where there is none as low
      return last == last ? ordered(last - (2 * Contest::kDoubt + 0x1p-50 * fabs(last))) : 0;
    }
  }
  for (int64_t i = team.rank(); i < count; i += Team::kSize) runners[i].key = 0;
  return 0;
}

// Copies the runners whose keys are at least `least` to `few`, if they have room there; returns how many they are.
template <class Team>
__device__ int64_t keep_few(const Team& team, const Runner* runners, int64_t count, uint64_t least, Runner* few,
                            int64_t few_room) {
  team.sync();  // whoever still reads a histogram there
  int64_t own = 0, all;
  for (int64_t i = team.rank(); i < count; i += Team::kSize) own += runners[i].key >= least;
  int64_t at = team.sum_before(own, all);
  for (int64_t i = team.rank(); all <= few_room && i < count; i += Team::kSize) {
    if (runners[i].key >= least) few[at++] = runners[i];
  }
  team.sync();
  return all;
}

// Writes the `draws` items with the largest keys, in order. `count` items whom the sieve let pass stand in `runners`
// (more than `room`: not all of them), in any order.
template <class Team, class T, class Contest>
__device__ void finish(const Team& team, const Row<T>& row, const Contest& contest, double bound, Runner* runners,
                       int64_t count, int64_t room, int64_t draws, Runner* few, int64_t few_room,
                       unsigned long long* counter, int64_t* index) {
  auto* const histogram = reinterpret_cast<unsigned long long*>(few);
  if (count >= draws && count <= room) {
    const uint64_t least = least_guess(team, row, contest, runners, count, draws, histogram);
    const int64_t kept = keep_few(team, runners, count, least, few, few_room), listed = kept <= few_room ? kept : count;
    Runner* const list = kept <= few_room ? few : runners;
    for (int64_t i = team.rank(); i < listed; i += Team::kSize) {
      list[i].key = list == few || list[i].key >= least ? contest.key(list[i].item, row.at(list[i].item)) : 0;
    }
    team.sync();
    sort(team, list, listed, Ahead());
    if (list[draws - 1].key >= contest.least(bound)) {
      for (int64_t i = team.rank(); i < draws; i += Team::kSize) index[i] = list[i].item;
      return;
    }
  }
  // All keys, as often as it takes to find the last that wins, and then the last item that wins with it.
  const auto visit_keys = [&](auto see) {
    for (int64_t item = team.rank(); item < row.items; item += Team::kSize) {
      const Real<T> score = row.at(item);
      if (score > kLowest<Real<T>>) see(contest.key(item, score), item);
    }
  };
  const Nth last =
      nth_largest(team, histogram, draws, [&](auto see) { visit_keys([&](uint64_t key, int64_t) { see(key); }); });
  uint64_t first_tie = 0;
  if (last.ties) {
    first_tie = nth_largest(team, histogram, last.ties, [&](auto see) {
                  visit_keys([&](uint64_t key, int64_t item) {
                    if (key == last.value) see(~static_cast<uint64_t>(item));
                  });
                }).value;
  }
  team.sync();
  if (team.rank() == 0) *counter = 0;
  team.sync();
  visit_keys([&](uint64_t key, int64_t item) {
    if (key < last.value || (last.ties && key == last.value && ~static_cast<uint64_t>(item) < first_tie)) return;
    runners[atomicAdd(counter, 1ull)] = {key, item};
  });
  team.sync();
  sort(team, runners, draws, Ahead());
  for (int64_t i = team.rank(); i < draws; i += Team::kSize) index[i] = runners[i].item;
}

}  // namespace zoomkern::cuda

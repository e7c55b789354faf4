// The kernels of sampling. Short rows: a team draws and weighs a whole row in one launch. Long rows: blocks share a
// row, and the last of them that is done with a launch does what needs the results of all.
#pragma once

#include "cuda/faults.cuh"
#include "cuda/masses.cuh"
#include "cuda/race.cuh"
#include "cuda/ranking.cuh"
#include "cuda/rows.cuh"
#include "cuda/selection.cuh"
#include "cuda/weights.cuh"

namespace zoomkern::cuda {

// What is known of a row before items are looked for.
struct Plan {
  Part whole;
  int64_t draws;
  double bound;    // of a contest
  Bins bins;       // that a closer bound takes
  uint64_t total;  // of all masses
  Cut cut;
};

// One call of sample, or of draw_weights.
struct Task {
  Scores scores;
  int64_t rows, items;
  const int64_t *seed, *counts, *given;  // counts: null for draws of every row; given: the draw to be weighed, or null
  bool own_seed;                         // a seed for every row
  int64_t draws, sampler, estimator;
  bool pad;
  int64_t grid_width;

  int64_t* index;  // [B, N]
  void *log_prob, *weight;
  double* lse;  // [B, 2]
  Fault* fault;

  // Scratch for every team, or for every long row: runners [room], and what samplers that add masses know of stretches.
  Runner* runners;
  int64_t room;
  Stretches walk;

  // For long rows alone.
  Part* parts;  // of every kSpan items
  int64_t parts_each, blocks_each;
  Plan* plans;
  unsigned* binned;            // [B, Bins::kCount]
  unsigned long long* passed;  // 0 at first, as are arrivals
  unsigned* arrivals;

  __host__ __device__ __forceinline__ bool adds_masses() const {
    return sampler == kThresholdSampler || sampler == kReplacementSampler;
  }
  __device__ __forceinline__ Key key(int64_t b) const {
    return {static_cast<uint64_t>(seed[own_seed ? b : 0]), static_cast<uint32_t>(own_seed ? 0 : b)};
  }
  __device__ __forceinline__ unsigned* binned_of(int64_t b) const { return binned + b * Bins::kCount; }
  __device__ __forceinline__ Stretches walk_of(int64_t slot) const {
    return {walk.sum + slot * walk.count, walk.most + slot * walk.count, walk.count, walk.span};
  }
};

// A team and its shared memory.
template <class Team>
struct Desk {
  static constexpr size_t kWork = 4096;  // bytes: runners, a histogram, or nodes of a quadrature
  static constexpr size_t kParts = Team::kShared + sizeof(unsigned long long);
  static constexpr size_t kBytes = kParts + Team::kSize * sizeof(Part) + kWork;
  static constexpr int64_t kFewRunners = kWork / sizeof(Runner);
  static_assert(kNodeBytes <= kWork && kHistogramBytes <= kWork && Bins::kBytes <= kWork);

  size_t place;
  Team team;

  __device__ __forceinline__ explicit Desk(int number) : place(number * kBytes), team(shared_at<void>(place)) {}

  __device__ __forceinline__ unsigned long long* counter() const {
    return shared_at<unsigned long long>(place + Team::kShared);
  }
  __device__ __forceinline__ Part* parts() const { return shared_at<Part>(place + kParts); }
  template <class V>
  __device__ __forceinline__ V* work() const {
    return shared_at<V>(place + kParts + Team::kSize * sizeof(Part));
  }
};

// How many places at the front of a given row of indices name items that may be drawn; all others must be -1.
template <class Team, class T>
__device__ int64_t count_given(const Team& team, const Task& task, int64_t b, const Row<T>& row) {
  const int64_t* index = task.given + b * task.draws;
  const auto bad = [&](int64_t item) {
    return item < -1 || item >= row.items || (item >= 0 && !(row.at(item) > kLowest<Real<T>>));
  };
  int64_t end = task.draws;
  for (int64_t j = team.rank(); j < end; j += Team::kSize) {
    if (index[j] < 0 || bad(index[j])) end = j;
  }
  end = team.reduce(end, Min());
  for (int64_t j = end + team.rank(); j < task.draws; j += Team::kSize) {
    if (index[j] != -1) note(task.fault, kBadIndex, b, index[j]);
  }
  return end;
}

// How many items of a row are drawn; notes why it cannot be as many as were asked for.
template <class Team, class T>
__device__ int64_t decide(const Team& team, const Task& task, int64_t b, const Row<T>& row, const Part& whole) {
  if (team.rank() == 0) whole.put_lse(task.lse + 2 * b);
  if (whole.wrong()) {
    const int64_t item = first_wrong(team, row);
    if (team.rank() == 0) note(task.fault, row.at(item) > 0 ? kInfinity : kNan, b, item);
    return 0;
  }
  if (task.given) return count_given(team, task, b, row);
  const int64_t wanted = task.counts ? task.counts[b] : task.draws;
  if (wanted < 0 || wanted > task.draws) {
    if (team.rank() == 0) note(task.fault, kBadCount, b, wanted);
    return 0;
  }
  const bool repeats = task.sampler == kReplacementSampler;
  const int64_t needed = repeats ? Min()(wanted, int64_t{1}) : wanted;
  if (whole.drawable >= needed) return wanted;
  if (!task.pad && team.rank() == 0) note(task.fault, kTooFew, b, whole.drawable, needed);
  return task.pad && !repeats ? whole.drawable : 0;
}

// Calls f with the contest of a row.
template <class T, class F>
__device__ __forceinline__ void with_contest(const Task& task, int64_t b, const Row<T>& row, const Plan& plan, F f) {
  if (task.sampler == kTopk)
    f(Top<T>{});
  else
    f(Race<T>{row, plan.whole.max, task.key(b)});
}

template <class Team, class T>
__device__ double find_bound(const Desk<Team>& desk, const Task& task, const Part* parts, int64_t count,
                             const Plan& plan) {
  if (task.sampler == kTopk) {
    return Top<T>::bound(desk.team, desk.template work<unsigned long long>(), parts, count, plan.whole, plan.draws,
                         task.room);
  }
  return Race<T>::bound(desk.team, parts, count, plan.whole, plan.draws, task.room);
}

// Whether the bound that parts tell is close, and if not, the bins that will tell, which are empty.
template <class Team, class T>
__device__ void plan_bins(const Desk<Team>& desk, const Task& task, int64_t b, const Part* parts, Plan& plan) {
  const auto bins_of = [&](auto contest) {
    return decltype(contest)::bins(desk.team, desk.template work<unsigned long long>(), parts, task.parts_each,
                                   plan.whole, plan.draws, plan.bound);
  };
  plan.bins = task.sampler == kTopk ? bins_of(Top<T>{}) : bins_of(Race<T>{});
  if (plan.bins.rate == 0) return;
  for (int i = desk.team.rank(); i < Bins::kCount; i += Team::kSize) task.binned_of(b)[i] = 0;
}

// Writes to runners those items of [begin, end) that one of `size` threads finds within the bound.
template <class T, class Contest>
__device__ void let_pass(const Task& task, const Row<T>& row, const Contest& contest, double bound, int64_t begin,
                         int64_t end, int rank, int size, Runner* runners, unsigned long long* counter) {
  if (bound != bound) return;
  const auto sieve = contest.sieve(bound);
  row.sweep(begin, end, rank, size, [&](int64_t item, const Real<T>(&score)[kFour]) {
    sieve.pass(item, score, [&](int64_t passed) {
      const unsigned long long at = atomicAdd(counter, 1ull);
      if (at < static_cast<unsigned long long>(task.room)) runners[at].item = passed;
    });
  });
}

// log_prob and weight of a row whose draw stands in its index. `parts` are those of stretches of kSpan items, or null.
template <bool kMasses, class Team, class T>
__device__ void weigh(const Desk<Team>& desk, const Task& task, int64_t b, const Row<T>& row, const Plan& plan,
                      const Part* parts, Runner* scratch) {
  using R = Real<T>;
  const Team& team = desk.team;
  const int64_t n = plan.draws, *index = (task.given ? task.given : task.index) + b * task.draws;
  R *log_prob = static_cast<R*>(task.log_prob) + b * task.draws,
    *weight = static_cast<R*>(task.weight) + b * task.draws;
  double* prob = reinterpret_cast<double*>(scratch);
  for (int64_t j = n + team.rank(); j < task.draws; j += Team::kSize) log_prob[j] = weight[j] = 0;
  if (n == 0) return;
  const double log_sum = exact::log(plan.whole.sum);
  double sum = 0;
  for (int64_t j = team.rank(); j < n; j += Team::kSize) {
    const double value = (static_cast<double>(row.at(index[j])) - plan.whole.max) - log_sum;
    log_prob[j] = static_cast<R>(Max()(value, static_cast<double>(std::numeric_limits<R>::lowest())));
    sum += prob[j] = exp(Min()(value, 0.0));  // down to the last number, which exact::exp is not
  }
  team.sync();
  if constexpr (kMasses) {
    const Masses<T> masses(row, plan.whole.max, 0);
    const double share = static_cast<double>(plan.total) / static_cast<double>(n);
    for (int64_t j = team.rank(); j < n; j += Team::kSize) {
      const uint64_t mass = masses.of(index[j]);
      prob[j] = task.sampler == kReplacementSampler ? prob[j] * (share / static_cast<double>(mass))
                                                    : prob[j] / plan.cut.inclusion(mass);
    }
  } else if (task.sampler == kTopk) {
    sum = team.reduce(sum, Sum());
    for (int64_t j = team.rank(); j < n; j += Team::kSize) prob[j] /= sum;
  } else {
    int64_t* sorted = reinterpret_cast<int64_t*>(prob + task.draws);
    const double rest = rest_of(team, row, plan.whole, parts, index, prob, n, sorted);
    if (task.estimator == kDesraj)
      desraj(team, prob, n, rest);
    else
      murthy(team, prob, n, rest, sizeof(T) == 8, desk.template work<double>());
  }
  for (int64_t j = team.rank(); j < n; j += Team::kSize) weight[j] = static_cast<R>(prob[j]);
}

// What a plan says of masses, once all stretches are measured.
template <class Team, class T>
__device__ void plan_masses(const Desk<Team>& desk, const Task& task, const Masses<T>& masses, const Stretches& walk,
                            Plan& plan) {
  plan.total = masses.total(desk.team, walk);
  plan.cut = {std::numeric_limits<uint64_t>::max(), plan.total, plan.draws};
  if (task.sampler == kThresholdSampler) plan.cut = masses.cut(desk.team, walk, plan.total, plan.draws);
  if (!task.given) masses.add_up(desk.team, walk, plan.cut.tau);
}

template <class T>
__device__ void draw_masses(const Task& task, int64_t b, const Masses<T>& masses, const Stretches& walk,
                            const Plan& plan, const Crew& crew, unsigned long long* counter) {
  int64_t* index = task.index + b * task.draws;
  if (task.sampler == kThresholdSampler)
    masses.draw_threshold(walk, plan.cut, task.key(b), crew, counter, index);
  else
    masses.draw_replacement(walk, plan.total, plan.draws, task.key(b), crew, index);
}

template <class Team>
__device__ void pad_index(const Team& team, const Task& task, int64_t b, int64_t draws) {
  if (task.given) return;
  for (int64_t j = draws + team.rank(); j < task.draws; j += Team::kSize) task.index[b * task.draws + j] = -1;
}

// A block keeps its row in shared memory behind its desk, -inf where nothing may be drawn, and reads it there from then
// on; the rows of a warp stay in the caches.
template <class Team>
constexpr bool kKeepsRow = Team::kSize > kWarp;
static_assert(Desk<BlockTeam<256>>::kBytes % sizeof(uint4) == 0);

constexpr size_t row_bytes(int64_t items, size_t each) { return (items + kFour - 1) / kFour * kFour * each; }

template <class T>
__device__ __forceinline__ void keep(T* row, int64_t item, const Real<T> (&score)[kFour]) {
  Four<T> four;
#pragma unroll
  for (int k = 0; k < kFour; ++k) four.at[k] = from_float<T>(score[k]);
  *reinterpret_cast<Four<T>*>(row + item) = four;
}

// Short rows, each by one team.
template <bool kMasses, class Team, class T>
__global__ void __launch_bounds__(Team::kSize < 128 ? 128 : Team::kSize, Team::kSize < 128 ? 4 : 1)
    draw_short_rows(const Task task) {
  const int teams = static_cast<int>(blockDim.x) / Team::kSize, number = static_cast<int>(threadIdx.x) / Team::kSize;
  const Desk<Team> desk(number);
  const Team& team = desk.team;
  const int64_t slot = int64_t{blockIdx.x} * teams + number;
  Runner* const runners = task.runners + slot * task.room;
  for (int64_t b = slot; b < task.rows; b += int64_t{gridDim.x} * teams) {
    Row<T> row(task.scores, b, task.items);
    [[maybe_unused]] T* const kept = shared_at<T>(Desk<Team>::kBytes);
    Tally<Real<T>> tally;
    team.sync();  // whoever is still busy with the row before
    row.sweep(0, row.items, team.rank(), Team::kSize, [&](int64_t item, const Real<T>(&score)[kFour]) {
      tally.add(score);
      if constexpr (kKeepsRow<Team>) keep(kept, item, score);
    });
    if constexpr (kKeepsRow<Team>) row = Row<T>(kept, task.items);
    desk.parts()[team.rank()] = tally.part();
    if (team.rank() == 0) *desk.counter() = 0;
    team.sync();
    Plan plan = {};
    plan.whole = unite(team, desk.parts(), Team::kSize);
    plan.draws = decide(team, task, b, row, plan.whole);
    pad_index(team, task, b, plan.draws);
    if constexpr (kMasses) {
      if (plan.draws) {
        const Masses<T> masses(row, plan.whole.max, task.grid_width);
        const Stretches walk = task.walk_of(slot);
        const Crew crew = crew_of(team);
        for (int64_t s = crew.warp; s < walk.count; s += crew.warps) masses.measure(walk, s);
        team.sync();
        plan_masses(desk, task, masses, walk, plan);
        if (!task.given) {
          draw_masses(task, b, masses, walk, plan, crew, desk.counter());
          team.sync();
          if (task.sampler == kThresholdSampler) sort(team, task.index + b * task.draws, plan.draws, Less());
        }
      }
    } else if (plan.draws && !task.given) {
      plan.bound = find_bound<Team, T>(desk, task, desk.parts(), Team::kSize, plan);
      with_contest(task, b, row, plan, [&](const auto& contest) {
#pragma unroll 1
        for (bool close = false;; close = true) {
          let_pass(task, row, contest, plan.bound, 0, row.items, team.rank(), Team::kSize, runners, desk.counter());
          team.sync();
          const bool well = plan.bound == plan.bound && static_cast<int64_t>(*desk.counter()) <= task.room;
          team.sync();
          if (well || close) break;
          plan.bound = contest.close_bound(team, plan.whole, plan.draws, task.room);
          if (team.rank() == 0) *desk.counter() = 0;
          team.sync();
        }
        finish(team, row, contest, plan.bound, runners, static_cast<int64_t>(*desk.counter()), task.room, plan.draws,
               desk.template work<Runner>(), Desk<Team>::kFewRunners, desk.counter(), task.index + b * task.draws);
      });
      team.sync();
    }
    weigh<kMasses>(desk, task, b, row, plan, nullptr, runners);
  }
}

// Long rows: what the blocks of a launch know of theirs.
template <class Team>
struct Post {
  int64_t b;
  Crew crew;  // of all blocks of the row

  __device__ __forceinline__ explicit Post(const Task& task) : b(blockIdx.x / task.blocks_each) {
    constexpr int64_t warps = Team::kSize / kWarp;
    crew = {blockIdx.x % task.blocks_each * warps + threadIdx.x / kWarp, task.blocks_each * warps};
  }
  __device__ __forceinline__ bool is_last(const Task& task, const Desk<Team>& desk) const {
    return last_to_arrive(task.arrivals + b, static_cast<unsigned>(task.blocks_each), desk.counter());
  }
};

template <class Team, class T>
__global__ void __launch_bounds__(Team::kSize, 1) survey_long_rows(const Task task) {
  const Desk<Team> desk(0);
  const Post<Team> post(task);
  const WarpTeam warp(nullptr);
  const Row<T> row(task.scores, post.b, task.items);
  Part* const parts = task.parts + post.b * task.parts_each;
  for (int64_t s = post.crew.warp; s < task.parts_each; s += post.crew.warps) {
    Tally<Real<T>> tally;
    row.sweep(s * kSpan, Min()((s + 1) * kSpan, row.items), warp.rank(), kWarp,
              [&](int64_t, const Real<T>(&score)[kFour]) { tally.add(score); });
    const Part part = unite(warp, tally.part());
    if (warp.rank() == 0) parts[s] = part;
  }
  if (!post.is_last(task, desk)) return;
  Plan plan = {};
  plan.whole = unite(desk.team, parts, task.parts_each);
  plan.draws = decide(desk.team, task, post.b, row, plan.whole);
  pad_index(desk.team, task, post.b, plan.draws);
  if (!task.adds_masses()) {
    if (task.given) {
      weigh<false>(desk, task, post.b, row, plan, parts, task.runners + post.b * task.room);
    } else if (plan.draws) {
      plan.bound = find_bound<Team, T>(desk, task, parts, task.parts_each, plan);
      plan_bins<Team, T>(desk, task, post.b, parts, plan);
    }
  }
  if (threadIdx.x == 0) task.plans[post.b] = plan;
}

// Counts the items of parts that tell too little, where there are any, and finds a close bound from all. A launch of
// its own, which ends at once where all is told: only all parts together say which items matter, and to count every
// item in the survey would make every row pay.
template <class Team, class T>
__global__ void __launch_bounds__(Team::kSize, 1) bin_long_rows(const Task task) {
  const Desk<Team> desk(0);
  const Post<Team> post(task);
  Plan plan = task.plans[post.b];
  if (plan.bins.rate == 0) return;
  const Row<T> row(task.scores, post.b, task.items);
  const Bins bins = plan.bins;
  const Part* const parts = task.parts + post.b * task.parts_each;
  unsigned *const own = desk.template work<unsigned>(), *const all = task.binned_of(post.b);
  for (int i = desk.team.rank(); i < Bins::kCount; i += Team::kSize) own[i] = 0;
  desk.team.sync();
  with_contest(task, post.b, row, plan, [&](const auto& contest) {
    for (int64_t s = post.crew.warp; s < task.parts_each; s += post.crew.warps) {
      if (contest.is_known(parts[s], plan.whole, plan.bound)) continue;
      row.sweep(s * kSpan, Min()((s + 1) * kSpan, row.items), threadIdx.x % kWarp, kWarp,
                [&](int64_t, const Real<T>(&score)[kFour]) {
#pragma unroll
                  for (int k = 0; k < kFour; ++k) {
                    if (score[k] > kLowest<Real<T>>) atomicAdd(&own[bins.of(score[k])], 1u);
                  }
                });
    }
    desk.team.sync();
    for (int i = desk.team.rank(); i < Bins::kCount; i += Team::kSize) {
      if (own[i]) atomicAdd(&all[i], own[i]);
    }
    if (!post.is_last(task, desk)) return;
    plan.bound = contest.close_bound(desk.team, bins, all, parts, task.parts_each, plan.whole, plan.draws, task.room,
                                     plan.bound);
    if (threadIdx.x == 0) task.plans[post.b] = plan;
  });
}

template <class Team, class T>
__global__ void __launch_bounds__(Team::kSize, 1) contest_long_rows(const Task task) {
  const Desk<Team> desk(0);
  const Post<Team> post(task);
  const Row<T> row(task.scores, post.b, task.items);
  const Plan plan = task.plans[post.b];
  Runner* const runners = task.runners + post.b * task.room;
  unsigned long long* const passed = task.passed + post.b;
  with_contest(task, post.b, row, plan, [&](const auto& contest) {
    for (int64_t s = post.crew.warp; plan.draws && s < task.parts_each; s += post.crew.warps) {
      let_pass(task, row, contest, plan.bound, s * kSpan, Min()((s + 1) * kSpan, row.items), threadIdx.x % kWarp, kWarp,
               runners, passed);
    }
    if (!post.is_last(task, desk)) return;
    if (plan.draws) {
      finish(desk.team, row, contest, plan.bound, runners, static_cast<int64_t>(*passed), task.room, plan.draws,
             desk.template work<Runner>(), Desk<Team>::kFewRunners, passed, task.index + post.b * task.draws);
      desk.team.sync();
    }
    weigh<false>(desk, task, post.b, row, plan, task.parts + post.b * task.parts_each, runners);
  });
}

template <class Team, class T>
__global__ void __launch_bounds__(Team::kSize, 1) measure_long_rows(const Task task) {
  const Desk<Team> desk(0);
  const Post<Team> post(task);
  const Row<T> row(task.scores, post.b, task.items);
  Plan plan = task.plans[post.b];
  const Masses<T> masses(row, plan.whole.max, task.grid_width);
  const Stretches walk = task.walk_of(post.b);
  for (int64_t s = post.crew.warp; plan.draws && s < walk.count; s += post.crew.warps) masses.measure(walk, s);
  if (!post.is_last(task, desk)) return;
  if (plan.draws) plan_masses(desk, task, masses, walk, plan);
  if (task.given) weigh<true>(desk, task, post.b, row, plan, nullptr, task.runners + post.b * task.room);
  if (threadIdx.x == 0) task.plans[post.b] = plan;
}

template <class Team, class T>
__global__ void __launch_bounds__(Team::kSize, 1) pick_long_rows(const Task task) {
  const Desk<Team> desk(0);
  const Post<Team> post(task);
  const Row<T> row(task.scores, post.b, task.items);
  const Plan plan = task.plans[post.b];
  if (plan.draws) {
    const Masses<T> masses(row, plan.whole.max, task.grid_width);
    draw_masses(task, post.b, masses, task.walk_of(post.b), plan, post.crew, task.passed + post.b);
  }
  if (!post.is_last(task, desk)) return;
  if (task.sampler == kThresholdSampler) sort(desk.team, task.index + post.b * task.draws, plan.draws, Less());
  weigh<true>(desk, task, post.b, row, plan, nullptr, task.runners + post.b * task.room);
}

}  // namespace zoomkern::cuda

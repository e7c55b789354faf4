// The teams of csrc/cuda/team.cuh, and the emulation itself, whose errors must be noticed.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cuda/launch.hpp"
#include "cuda/team.cuh"

using namespace zoomkern::cuda;

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("failed: %s\n", what);
  ++failures;
}

bool complains(const char* words, const std::function<void()>& doing) {
  try {
    doing();
  } catch (const std::runtime_error& error) {
    return std::string(error.what()).find(words) != std::string::npos;
  }
  return false;
}

struct Found {
  double sum, largest, before, total;
};

template <class Team>
void measure(const double* values, Found* found) {
  const Team team(shared_at<void>(0));
  const int team_number = threadIdx.x / Team::kSize,
            i = blockIdx.x * blockDim.x + team_number * Team::kSize + team.rank();
  for (int round = 0; round < 3; ++round) {  // the slots are used again at once
    Found& own = found[i];
    own.sum = team.reduce(values[i], Sum());
    own.largest = team.reduce(values[i], Max());
    own.before = team.sum_before(values[i], own.total);
  }
}

template <class Team>
void check_team(unsigned threads, const char* name) {
  constexpr int blocks = 5;
  std::vector<double> values(blocks * threads);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * 7919 % 101);  // exact in any order
  std::vector<Found> found(values.size());
  launch(measure<Team>, dim3(blocks), threads, Team::kShared, nullptr, values.data(), found.data());
  for (size_t first = 0; first < values.size(); first += Team::kSize) {
    double total = 0, largest = 0;
    for (size_t i = first; i < first + Team::kSize; ++i) total += values[i], largest = std::max(largest, values[i]);
    double before = 0;
    for (size_t i = first; i < first + Team::kSize; ++i) {
      const Found& own = found[i];
      expect(own.sum == total && own.total == total && own.largest == largest && own.before == before, name);
      before += values[i];
    }
  }
}

void count_arrivals(unsigned* counter, int* written, int* seen) {
  written[blockIdx.x] = 1;
  if (!last_to_arrive(counter, gridDim.x, shared_at<void>(0))) return;
  if (threadIdx.x == 0) {
    for (unsigned i = 0; i < gridDim.x; ++i) *seen += written[i];
  }
}

void check_arrival() {
  for (int round = 0; round < 20; ++round) {
    unsigned counter = 0;
    std::vector<int> written(37);
    int seen = 0;
    launch(count_arrivals, dim3(37), 64, 8, nullptr, &counter, written.data(), &seen);
    expect(seen == 37 && counter == 0, "the last block sees what all others wrote");
  }
}

void leave_before_a_barrier() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
void wait_in_part_of_a_warp() {
  if (threadIdx.x % 2) __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
}
void meet_elsewhere() {
  if (threadIdx.x % 2)
    __syncwarp();
  else
    __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
}
void write_too_far() { shared_at<int>(64)[threadIdx.x] = 1; }
void forget_a_barrier(int* result) {
  int* shared = shared_at<int>(0);
  shared[threadIdx.x] = 1;
  int sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += shared[i] == 1;
  result[threadIdx.x] = sum;
}

// Every thread reads what all wrote, and writes the next round's number too early.
void write_before_all_have_read(int* result) {
  int* shared = shared_at<int>(0);
  int right = 0;
  for (int round = 0; round < 8; ++round) {
    shared[threadIdx.x] = round;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x; ++i) right += shared[i] == round;
  }
  result[threadIdx.x] = right;
}

// How many of 20 launches of a block of 128 threads go wrong.
int wrong_launches() {
  int wrong = 0;
  for (int launches = 0; launches < 20; ++launches) {
    std::vector<int> result(128);
    launch(write_before_all_have_read, dim3(1), 128, 512, nullptr, result.data());
    wrong += std::count(result.begin(), result.end(), 8 * 128) < 128;
  }
  return wrong;
}

}  // namespace

int main() {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    emulation::reseed(seed);
    check_team<WarpTeam>(96, "a warp");
    check_team<BlockTeam<32>>(32, "a block of one warp");
    check_team<BlockTeam<256>>(256, "a block");
    check_arrival();
  }
  expect(complains("left the kernel", [] { launch(leave_before_a_barrier, dim3(1), 64, 0, nullptr); }),
         "a barrier that a thread never reaches is an error");
  expect(complains("left the kernel", [] { launch(wait_in_part_of_a_warp, dim3(1), 64, 0, nullptr); }),
         "a shuffle that a lane never reaches is an error");
  expect(complains("wait for each other", [] { launch(meet_elsewhere, dim3(1), 32, 0, nullptr); }),
         "lanes that wait for different things do not meet");
  expect(complains("beyond shared memory", [] { launch(write_too_far, dim3(1), 32, 64, nullptr); }),
         "a write behind the shared memory is an error");
  expect(complains("invalid configuration", [] { launch(leave_before_a_barrier, dim3(1), 2048, 0, nullptr); }),
         "a block that is too large is an error");
  std::vector<int> result(64);
  launch(forget_a_barrier, dim3(1), 64, 256, nullptr, result.data());
  expect(std::count(result.begin(), result.end(), 64) < 64, "a missing barrier shows");
  expect(wrong_launches() > 3, "a missing barrier between reading and writing again shows");
  std::printf("%d failures\n", failures);
  return failures != 0;
}

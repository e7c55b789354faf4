// Fibres and their schedule; see cuda_runtime.h.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace zoomkern::cuda {
uint4 shared_memory[(100 << 10) / sizeof(uint4)];  // of the block that runs
}

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

uint64_t arrival_times = 0, ordered_numbers = 0, widest_grid = 0;

namespace {

constexpr size_t kStack = 128 << 10;
constexpr int kBlocksAtOnce = 3;
constexpr size_t kBeyond = 64;  // bytes behind the shared memory of a block, which it must leave alone
constexpr int kNobody = -1;

enum Wait { kReady, kAtBlock, kAtWarp, kGone };

struct Fibre {
  jmp_buf place;
  bool started = false;
  Wait wait = kReady;
  unsigned mask = 0;
  Meeting meeting = kBarrier;
  uint64_t given = 0, seen[32] = {};  // what it leaves for the lanes it waits for, and what they left
  dim3 index;
};

struct Block {
  dim3 index;
  std::vector<Fibre> fibres;
  std::vector<int> ready;  // numbers of the fibres that can run
  std::vector<unsigned char> shared;
  int waiting = 0, gone = 0;
};

std::mt19937_64 random_source(1);
uintptr_t fences[2] = {};
const std::function<void()>* kernel;
Block* block;
Fibre* fibre;
jmp_buf scheduler;
ucontext_t starter;

// Stacks are kept from launch to launch.
void* stack_of(size_t number) {
  static std::vector<void*> stacks;
  while (stacks.size() <= number) {
    void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("emulation: no memory for a stack");
    stacks.push_back(memory);
  }
  return stacks[number];
}

size_t draw(size_t below) { return random_source() % below; }

// Which of the fibres that can run goes on. A fair launch takes any. The others have an order of warps that hardly ever
// changes, in which one runs ahead until it has to wait: only so is a barrier missed that keeps the fast from writing
// what the slow have still to read.
class Schedule {
 public:
  void begin() { fair_ = draw(2) == 0; }

  size_t next(const std::vector<int>& ready) {
    if (fair_ || draw(256) == 0) return draw(ready.size());
    if (draw(2000) == 0) order_ = draw(kWarps);
    const auto rank = [this](int number) { return static_cast<size_t>(number) / 32 ^ order_; };
    const auto first = [&](int a, int b) { return rank(a) < rank(b); };
    return std::min_element(ready.begin(), ready.end(), first) - ready.begin();
  }

 private:
  static constexpr size_t kWarps = 32;  // of the largest block

  bool fair_ = true;
  size_t order_ = 0;
};

Schedule schedule;

void leave() {
  if (_setjmp(fibre->place) == 0) _longjmp(scheduler, 1);
}

void body() {
  (*kernel)();
  fibre->wait = kGone;
  _longjmp(scheduler, 1);
}

void make_ready(Block& of, int number) {
  of.fibres[number].wait = kReady;
  of.ready.push_back(number);
}

void complain(const Block& of, const char* what) {
  throw std::runtime_error(std::string("emulation: ") + what + " in block " + std::to_string(of.index.x) + ", " +
                           std::to_string(of.index.y));
}

// Lets go whoever waits for what has now happened.
void release(Block& of, int number) {
  const Fibre& last = of.fibres[number];
  const int threads = static_cast<int>(of.fibres.size());
  if (last.wait == kAtBlock && of.waiting == threads) {
    of.waiting = 0;
    for (int i = 0; i < threads; ++i) make_ready(of, i);
  }
  if (last.wait == kAtWarp) {
    const int first = number / 32 * 32, count = std::min(32, threads - first);
    unsigned here = 0;
    for (int lane = 0; lane < count; ++lane) {
      const Fibre& other = of.fibres[first + lane];
      if (other.wait == kAtWarp && other.mask == last.mask && other.meeting == last.meeting) here |= 1u << lane;
    }
    const unsigned wanted = count == 32 ? last.mask : last.mask & ((1u << count) - 1);
    if ((here & wanted) != wanted) return;
    for (int lane = 0; lane < count; ++lane) {
      if (!(wanted >> lane & 1)) continue;
      for (int from = 0; from < count; ++from) of.fibres[first + lane].seen[from] = of.fibres[first + from].given;
      make_ready(of, first + lane);
    }
  }
}

void resume(Block& of, size_t slot, size_t first_stack) {
  const int number = of.ready[slot];
  of.ready[slot] = of.ready.back();
  of.ready.pop_back();
  block = &of;
  fibre = &of.fibres[number];
  threadIdx = fibre->index;
  blockIdx = of.index;
  if (_setjmp(scheduler) == 0) {
    if (fibre->started) _longjmp(fibre->place, 1);
    fibre->started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack_of(first_stack + number);
    context.uc_stack.ss_size = kStack;
    context.uc_link = nullptr;
    makecontext(&context, body, 0);
    swapcontext(&starter, &context);
  }
  switch (fibre->wait) {
    case kReady:
      of.ready.push_back(number);
      break;
    case kGone:
      ++of.gone;
      break;
    case kAtBlock:
      ++of.waiting;
      [[fallthrough]];
    case kAtWarp:
      release(of, number);
  }
  if (of.ready.empty() && of.gone < static_cast<int>(of.fibres.size())) {
    complain(of, of.gone ? "threads wait for others that have left the kernel" : "threads wait for each other");
  }
}

std::unique_ptr<Block> open(dim3 index, size_t shared) {
  auto made = std::make_unique<Block>();
  const int threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  made->index = index;
  made->fibres.resize(threads);
  made->shared.assign(shared + kBeyond, 0xA5);
  for (int i = 0; i < threads; ++i) {
    made->fibres[i].index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    made->ready.push_back(i);
  }
  return made;
}

}  // namespace

void reseed(uint64_t seed) { random_source.seed(seed); }

void check_load(const void* at, size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(at);
  for (const uintptr_t fence : fences) {
    if (first < fence && fence < first + bytes) std::abort();
  }
}

void pause() {
  if (draw(4) == 0) leave();
}

void wait_for_block() {
  fibre->wait = kAtBlock;
  leave();
}

void wait_for_warp(unsigned mask, Meeting meeting) {
  fibre->wait = kAtWarp;
  fibre->mask = mask;
  fibre->meeting = meeting;
  leave();
}

const uint64_t* exchange(unsigned mask, uint64_t value, Meeting meeting) {
  fibre->given = value;
  wait_for_warp(mask, meeting);
  return fibre->seen;
}

void run(dim3 grid, dim3 threads, size_t shared, const std::function<void()>& what) {
  kernel = &what;
  widest_grid = std::max<uint64_t>(widest_grid, grid.x);
  gridDim = grid;
  blockDim = threads;
  std::vector<uint64_t> order(uint64_t{grid.x} * grid.y * grid.z);
  for (uint64_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random_source);
  schedule.begin();
  std::unique_ptr<Block> open_blocks[kBlocksAtOnce];
  int last = kNobody;
  for (;;) {
    // A few steps of one block, then of another.
    const int slot = static_cast<int>(draw(kBlocksAtOnce));
    std::unique_ptr<Block>& of = open_blocks[slot];
    if (!of) {
      if (order.empty()) {
        if (std::none_of(open_blocks, open_blocks + kBlocksAtOnce, [](const auto& b) { return b != nullptr; })) return;
        continue;
      }
      const uint64_t number = order.back();
      order.pop_back();
      of = open(dim3(static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                     static_cast<unsigned>(number / grid.x / grid.y)),
                shared);
      if (last == slot) last = kNobody;
    }
    auto* const memory = reinterpret_cast<unsigned char*>(zoomkern::cuda::shared_memory);
    if (last != slot) {
      if (last != kNobody && open_blocks[last]) memcpy(open_blocks[last]->shared.data(), memory, shared);
      memcpy(memory, of->shared.data(), shared + kBeyond);
      last = slot;
    }
    for (size_t steps = 1 + draw(8 * of->fibres.size()); steps > 0 && !of->ready.empty(); --steps) {
      resume(*of, schedule.next(of->ready), slot * size_t{1024});
    }
    const auto touched = [](unsigned char byte) { return byte != 0xA5; };
    if (std::any_of(memory + shared, memory + shared + kBeyond, touched)) complain(*of, "writes beyond shared memory");
    if (of->ready.empty()) of.reset();
  }
}

}  // namespace emulation

// Called by the tests through ctypes.
extern "C" __attribute__((visibility("default"))) void zoomkern_fence_emulation(uint64_t first, uint64_t second) {
  emulation::fences[0] = first;
  emulation::fences[1] = second;
}
extern "C" __attribute__((visibility("default"))) void zoomkern_reseed_emulation(uint64_t seed) {
  emulation::reseed(seed);
}
// How many there were since the last call.
extern "C" __attribute__((visibility("default"))) uint64_t zoomkern_emulated_arrival_times() {
  return std::exchange(emulation::arrival_times, 0);
}
extern "C" __attribute__((visibility("default"))) uint64_t zoomkern_emulated_ordered_numbers() {
  return std::exchange(emulation::ordered_numbers, 0);
}
// Blocks along x of the widest launch since the last call.
extern "C" __attribute__((visibility("default"))) uint64_t zoomkern_emulated_widest_grid() {
  return std::exchange(emulation::widest_grid, 0);
}

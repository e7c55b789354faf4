#include "pages.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
#define MAP_ANONYMOUS MAP_ANON
#endif

// Older C libraries lack the name; the kernel answers EINVAL where it lacks the advice (before Linux 5.14).
#if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23
#endif

namespace zoomkern::host {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kBytesPerThread = std::size_t{16} << 20;
constexpr unsigned kMostThreads = 8;

std::size_t page_size() {
  static const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t round_up(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

std::string gibibytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / static_cast<double>(1ULL << 30));
  return text;
}

// Memory that can be touched without swapping, where the platform tells.
std::optional<std::uint64_t> available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    std::uint64_t kibibytes = 0;
    if (word == "MemAvailable:" && file >> kibibytes) return kibibytes << 10;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

[[noreturn]] void throw_out_of_memory(std::size_t bytes, const std::string& reason) {
  throw OutOfMemory("nbytes must fit in memory; got " + std::to_string(bytes) + " (" + gibibytes(bytes) + "), and " +
                    reason + ". Free memory, or read the image from a file with PinnedImage.from_memmap.");
}

void touch(char* begin, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += page_size()) *const_cast<volatile char*>(begin + at) = 0;
}

// Makes the pages resident; returns 0 or an errno value.
int populate(char* begin, std::size_t bytes) noexcept {
#if defined(MADV_POPULATE_WRITE)
  for (;;) {
    if (::madvise(begin, bytes, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno == ENOMEM) return ENOMEM;
    if (errno != EAGAIN && errno != EINTR) break;
  }
#endif
  touch(begin, bytes);
  return 0;
}

int populate_in_parallel(char* begin, std::size_t bytes, unsigned threads) {
  const std::size_t pieces = std::clamp<std::size_t>(bytes / kBytesPerThread, 1, threads);
  const std::size_t piece = round_up(round_up(bytes, pieces) / pieces, kHugePage);
  std::atomic<int> error{0};
  const auto work = [&](std::size_t start) {
    if (start >= bytes) return;
    if (const int code = populate(begin + start, std::min(piece, bytes - start))) error = code;
  };
  std::vector<std::thread> helpers;
  helpers.reserve(pieces);
  for (std::size_t i = 1; i < pieces; ++i) {
    try {
      helpers.emplace_back(work, i * piece);
    } catch (const std::system_error&) {  // no thread to be had: this one does the work
      work(i * piece);
    }
  }
  work(0);
  for (std::thread& helper : helpers) helper.join();
  return error;
}

// Maps `bytes` (whole pages) at a multiple of `alignment`, returning the surplus of the larger mapping it needs.
void* map_aligned(std::size_t bytes, std::size_t alignment) {
  const std::size_t surplus = alignment > page_size() ? alignment : 0;
  void* raw = ::mmap(nullptr, bytes + surplus, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  if (surplus == 0) return raw;
  char* begin = static_cast<char*>(raw);
  const std::size_t address = reinterpret_cast<std::uintptr_t>(raw);
  const std::size_t head = round_up(address, alignment) - address;
  if (head != 0) ::munmap(begin, head);
  if (surplus != head) ::munmap(begin + head + bytes, surplus - head);
  return begin + head;
}

bool advise_huge([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
  return ::madvise(begin, bytes, MADV_HUGEPAGE) == 0;
#else
  return false;
#endif
}

unsigned default_threads() { return std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads); }

[[maybe_unused]] std::optional<std::uint64_t> finite(rlim_t value) {
  if (value == RLIM_INFINITY) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

// The word in brackets of "always [madvise] never".
std::string chosen_word(const char* path) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word.size() > 2 && word.front() == '[' && word.back() == ']') return word.substr(1, word.size() - 2);
  }
  return "unknown";
}

}  // namespace

Pages::Pages(std::int64_t bytes, bool huge, int threads) {
  if (bytes <= 0) throw std::invalid_argument("nbytes must be positive; got " + std::to_string(bytes) + ".");
  if (threads < 0) {
    throw std::invalid_argument("threads must be 0 (one per processor) or more; got " + std::to_string(threads) + ".");
  }
  const auto size = static_cast<std::size_t>(bytes);
  if (size > std::numeric_limits<std::size_t>::max() / 2 - kHugePage) {
    throw_out_of_memory(size, "no address space is that large");
  }
  // Touching more than there is would not fail: the kernel would end this process, or another.
  if (const auto available = available_memory(); available && size > *available) {
    throw_out_of_memory(size, gibibytes(*available) + " is available");
  }
  const std::size_t mapped = round_up(size, page_size());
  const bool aligned = huge && mapped >= kHugePage;
  data_ = map_aligned(mapped, aligned ? kHugePage : page_size());
  if (data_ == nullptr) throw_out_of_memory(size, std::string("mmap refused it: ") + std::strerror(errno));
  huge_ = aligned && advise_huge(data_, mapped);
  int error = 0;
  try {
    error = populate_in_parallel(static_cast<char*>(data_), mapped,
                                 threads == 0 ? default_threads() : static_cast<unsigned>(threads));
  } catch (...) {
    ::munmap(data_, mapped);
    throw;
  }
  if (error != 0) {
    ::munmap(data_, mapped);
    throw_out_of_memory(size, std::string("its pages could not be touched: ") + std::strerror(error));
  }
  size_ = size;
  mapped_ = mapped;
}

Pages::~Pages() { ::munmap(data_, mapped_); }

bool advise_random([[maybe_unused]] const void* begin, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(MADV_RANDOM)
  if (bytes == 0) return true;
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = address / page_size() * page_size();
  return ::madvise(reinterpret_cast<void*>(first), address + bytes - first, MADV_RANDOM) == 0;
#else
  return false;
#endif
}

Limits limits() {
  Limits result;
  result.page_size = page_size();
  result.huge_pages = chosen_word("/sys/kernel/mm/transparent_hugepage/enabled");
  std::size_t huge_page_size = 0;
  if (std::ifstream("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") >> huge_page_size) {
    result.huge_page_size = huge_page_size;
  }
#if defined(RLIMIT_MEMLOCK)
  rlimit memlock{};
  if (::getrlimit(RLIMIT_MEMLOCK, &memlock) == 0) {
    result.memlock_soft = finite(memlock.rlim_cur);
    result.memlock_hard = finite(memlock.rlim_max);
  }
#endif
  return result;
}

}  // namespace zoomkern::host

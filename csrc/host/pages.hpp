// Page memory for images: exact-size anonymous mappings, touched in parallel. No Python, no torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>

namespace zoomkern::host {

// A std::bad_alloc that says what was asked for and what there was.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Zero-filled private memory of `bytes` rounded up to whole pages, unmapped on destruction. A forked child holds a
// copy-on-write mapping of its own, so that either process may drop its object first.
class Pages {
 public:
  // `threads` touch the pages; 0 takes one per processor, eight at most.
  // Throws std::invalid_argument for a bad argument and OutOfMemory where the memory is not there.
  Pages(std::int64_t bytes, bool huge, int threads);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  void* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  // Whether the kernel took the advice to back the memory with huge pages; it may still lack free ones.
  bool huge() const noexcept { return huge_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;
  bool huge_ = false;
};

// Tells the kernel that the pages holding [begin, begin + bytes) are read in no order, which turns read-ahead off.
// False where the platform has no such advice or the kernel refuses it.
bool advise_random(const void* begin, std::size_t bytes) noexcept;

struct Limits {
  std::size_t page_size = 0;
  std::optional<std::size_t> huge_page_size;
  std::string huge_pages;                     // "always", "madvise", "never" or "unknown"
  std::optional<std::uint64_t> memlock_soft;  // bytes; empty for unlimited
  std::optional<std::uint64_t> memlock_hard;
  bool page_locked = false;  // whether Pages are page-locked
};

Limits limits();

}  // namespace zoomkern::host

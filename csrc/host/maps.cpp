#include "maps.hpp"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace zoomkern::host {
namespace {

#if defined(__APPLE__)
using PageState = char;
#else
using PageState = unsigned char;
#endif

// What a thread copies from, and where it goes on if that is not there.
struct Copy {
  const char* begin;
  const char* end;
  sigjmp_buf lost;
};

// In the static block, as a signal handler must not allocate.
__attribute__((tls_model("initial-exec"))) thread_local Copy* volatile copying = nullptr;

struct sigaction before;
volatile sig_atomic_t gave_back = 0;

// What is no fault of a copy goes to the handler that was there before, as if ours had never been. Should that one give
// back to ours what it found when it was installed, as faulthandler does, the process ends.
void on_bus_error(int signal, siginfo_t* info, void*) {
  const char* address = static_cast<const char*>(info->si_addr);
  Copy* const copy = copying;
  if (copy && address >= copy->begin && address < copy->end) siglongjmp(copy->lost, 1);
  struct sigaction next = before;
  if (gave_back || (!(next.sa_flags & SA_SIGINFO) && next.sa_handler == SIG_IGN)) next = {};
  gave_back = 1;
  ::sigaction(signal, &next, nullptr);      // a fault happens again,
  if (info->si_code <= 0) ::raise(signal);  // a signal that was sent has to be sent again
}

// Installs the handler unless it is the present one: others come after it, as torch's in the workers of a DataLoader.
void install() {
  struct sigaction ours = {}, present = {};
  ours.sa_sigaction = &on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  ::sigemptyset(&ours.sa_mask);
  ::sigaction(SIGBUS, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) && present.sa_sigaction == &on_bus_error) return;
  before = present;
  gave_back = 0;
  ::sigaction(SIGBUS, &ours, nullptr);
}

// Whether the first and the last page of a range are in memory; asking for all would take a third of the copy's time,
// and the system reads ahead more than a tile.
bool is_resident(const char* begin, const char* end) {
  static const std::uintptr_t page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (const char* byte : {begin, end - 1}) {
    PageState state = 0;
    void* const start = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(byte) / page * page);
    if (::mincore(start, 1, &state) != 0 || !(state & 1)) return false;
  }
  return true;
}

// Calls `body(window's part, tile's part, bytes of a row, rows)` for each tile that is there.
template <class Body>
void for_each_part(const Window& window, const char* map, std::size_t size, const Tiles& tiles, Body body) {
  const std::size_t pitch = tiles.side * window.pixel_bytes;
  for (std::size_t y = 0, i = 0, height; y < window.height; y += height, ++i) {
    const std::size_t top = i ? 0 : tiles.top;
    height = std::min(tiles.side - top, window.height - y);
    for (std::size_t x = 0, j = 0, width; x < window.width; x += width, ++j) {
      const std::size_t left = j ? 0 : tiles.left;
      width = std::min(tiles.side - left, window.width - x);
      std::int64_t start;
      std::memcpy(&start, tiles.starts + i * tiles.row_stride + j * tiles.column_stride, sizeof(start));
      if (!start) continue;
      const std::size_t first = static_cast<std::size_t>(start);
      if (start < 0 || first > size || size - first < tiles.side * pitch) {
        throw std::out_of_range("a tile must lie in the map");
      }
      body(window.data + (y * window.width + x) * window.pixel_bytes,
           map + first + top * pitch + left * window.pixel_bytes, width * window.pixel_bytes, height);
    }
  }
}

}  // namespace

bool copy_tiles(const Window& window, const char* map, std::size_t size, const Tiles& tiles) {
  install();
  const std::size_t pitch = tiles.side * window.pixel_bytes, window_pitch = window.width * window.pixel_bytes;
  bool resident = true;
  for_each_part(window, map, size, tiles, [&](char*, const char* from, std::size_t row_bytes, std::size_t rows) {
    resident = resident && is_resident(from, from + (rows - 1) * pitch + row_bytes);
  });
  if (!resident) return false;
  Copy copy;
  copy.begin = map;
  copy.end = map + size;
  if (sigsetjmp(copy.lost, 0)) {
    copying = nullptr;
    return false;
  }
  copying = &copy;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  for_each_part(window, map, size, tiles, [&](char* to, const char* from, std::size_t row_bytes, std::size_t rows) {
    for (std::size_t i = 0; i < rows; ++i) std::memcpy(to + i * window_pitch, from + i * pitch, row_bytes);
  });
  std::atomic_signal_fence(std::memory_order_seq_cst);
  copying = nullptr;
  return true;
}

}  // namespace zoomkern::host

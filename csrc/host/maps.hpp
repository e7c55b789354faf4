// Copies out of memory maps of files. No Python, no torch.
#pragma once

#include <cstddef>

namespace zoomkern::host {

// Where the tiles under a window start in a map, row by row; 0 for one that is left out.
struct Tiles {
  const char* starts;                        // int64, aligned or not
  std::ptrdiff_t row_stride, column_stride;  // in bytes
  std::size_t side;                          // of a tile in pixels
  std::size_t top, left;                     // first pixel of the window in the first tile
};

// [height, width] pixels in rows without gaps.
struct Window {
  char* data;
  std::size_t height, width, pixel_bytes;
};

// Fills a window from the raw tiles under it in a map of `size` bytes, if they are in memory already, as far as their
// first and last pages tell. False where they are not: a call reads them from the disk in one piece, a map page by
// page; or the file was truncated, perhaps during this very copy, which would otherwise end the process by SIGBUS. A
// handler of that signal is installed for it; whatever is no such copy goes to the handler that was there before.
// Throws std::out_of_range for a tile that does not lie in the map.
bool copy_tiles(const Window& window, const char* map, std::size_t size, const Tiles& tiles);

}  // namespace zoomkern::host

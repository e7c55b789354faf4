// An image as the gatherer sees it, and where windows fall on it. All sizes and addresses are 64-bit.
#pragma once

#include "core/pixels.hpp"

namespace zoomkern {

// Farther out than any image reaches: zoomkern.typing.PADDED_OFFSET.
constexpr int64_t kPaddedOffset = -(int64_t{1} << 62);

struct ImageView {
  const void* data;
  int64_t size[3];    // channels, height, width
  int64_t stride[3];  // in elements
  int64_t dtype;
};

// A row of a descriptor table: zoomkern.typing.TABLE_COLUMNS.
constexpr int64_t kTableColumns = 8;
ZK_INLINE ImageView view_of_row(const int64_t* row) {
  return {reinterpret_cast<const void*>(row[0]), {row[1], row[2], row[3]}, {row[4], row[5], row[6]}, row[7]};
}

ZK_INLINE int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0) & ((a < 0) != (b < 0))); }

// Start, along one axis, of the patch of a grid cell: zoomkern/reference/offsets.py.
ZK_INLINE int64_t cell_offset(int64_t cell, int64_t cells, int64_t pixels, int64_t extent, bool corners) {
  if (!corners || cells == 1) return floor_div((2 * cell + 1) * pixels - cells * extent, 2 * cells);
  return floor_div(cell * (pixels - 1), cells - 1) - extent / 2;
}

// Move a window of `size` pixels, `step` apart, inside `pixels`; a larger window covers all of them.
ZK_INLINE int64_t shift_inside(int64_t offset, int64_t pixels, int64_t size, int64_t step) {
  if (offset == kPaddedOffset) return offset;
  const int64_t room = pixels - ((size - 1) * step + 1), low = room < 0 ? room : 0, high = room < 0 ? 0 : room;
  return offset < low ? low : offset > high ? high : offset;
}

// Output positions [first, last) whose pixel offset + i * step lies in [0, pixels).
struct Span {
  int64_t first, last;
};
ZK_INLINE Span inside(int64_t offset, int64_t pixels, int64_t size, int64_t step) {
  const int64_t limit = -kPaddedOffset;
  offset = offset < -limit ? -limit : offset > limit ? limit : offset;
  int64_t first = offset >= 0 ? 0 : (-offset - 1) / step + 1,
          last = pixels > offset ? (pixels - offset - 1) / step + 1 : 0;
  first = first > size ? size : first;
  last = last > size ? size : last;
  return {first, last < first ? first : last};
}

}  // namespace zoomkern

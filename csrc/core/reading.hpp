// How patches are read, and where their windows stand.
#pragma once

#include "core/image.hpp"

namespace zoomkern {

// How patches are read and stored.
struct Reading {
  int64_t size[2];  // output pixels
  int64_t step;
  bool shift;
  int64_t dtype;  // of the result
  bool channels_last;
};

// What drawn items stand for: cells of a grid, or candidate places.
struct Places {
  int64_t rows, columns, items;
  bool corners;
  const int64_t* locations;  // [L, 2] or [B, L, 2]; null: cells
  bool per_image;
};

// Where a window starts along an axis (0 down, 1 across) once it has been moved, if it is to be moved.
ZK_INLINE int64_t place(const ImageView& image, const Reading& reading, int axis, int64_t offset) {
  return reading.shift ? shift_inside(offset, image.size[1 + axis], reading.size[axis], reading.step) : offset;
}

// The same for the window of an item drawn from image b; -1 is a padded draw.
ZK_INLINE int64_t place_item(const Places& places, const ImageView& image, const Reading& reading, int axis, int64_t b,
                             int64_t item) {
  if (item < 0) return kPaddedOffset;
  if (places.locations) {
    const int64_t row = (places.per_image ? b * places.items : 0) + item;
    return place(image, reading, axis, places.locations[2 * row + axis]);
  }
  const int64_t cell = axis == 0 ? item / places.columns : item % places.columns;
  const int64_t cells = axis == 0 ? places.rows : places.columns;
  const int64_t extent = reading.step * reading.size[axis];
  return place(image, reading, axis, cell_offset(cell, cells, image.size[1 + axis], extent, places.corners));
}

}  // namespace zoomkern

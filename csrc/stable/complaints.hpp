// What is said of values that nothing can be drawn from; the words by which zoomkern.functional knows a ValueError.
#pragma once

#include <cstdint>
#include <string>

namespace zoomkern {

inline std::string complain_of_value(bool is_nan, int64_t row, int64_t item) {
  return "logits must be finite, or -inf where nothing may be drawn; got " + std::string(is_nan ? "nan" : "inf") +
         " in row " + std::to_string(row) + ", item " + std::to_string(item) +
         ". Look for an overflow in the network that made them, or mask such items.";
}

inline std::string complain_of_few(int64_t needed, int64_t drawable, int64_t row) {
  return "logits must have at least " + std::to_string(needed) + " items that may be drawn in every row; row " +
         std::to_string(row) + " has " + std::to_string(drawable) +
         ". Draw fewer, widen the mask, or pass on_short='pad'.";
}

}  // namespace zoomkern

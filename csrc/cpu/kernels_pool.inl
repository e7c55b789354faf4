// Pooling of drawn features; part of kernels.cpp.

template <class T>
void pool(const void* features, int64_t draws, int64_t width, const double* weight, int64_t first, int64_t last,
          void* pooled) {
  using R = Real<T>;
  constexpr int64_t kColumns = 256;
  R sum[kColumns];
  for (int64_t begin = first; begin < last; begin += kColumns) {
    const int64_t count = last - begin < kColumns ? last - begin : kColumns;
    for (int64_t d = 0; d < count; ++d) sum[d] = 0;
    for (int64_t n = 0; n < draws; ++n) {
      const T* row = static_cast<const T*>(features) + n * width + begin;
      const R w = static_cast<R>(weight[n]);
      for (int64_t d = 0; d < count; ++d) sum[d] += w * static_cast<R>(to_float(row[d]));
    }
    T* out = static_cast<T*>(pooled) + begin;
    for (int64_t d = 0; d < count; ++d) out[d] = from_float<T>(sum[d]);
  }
}

template <class T>
double pool_backward(const void* g, const void* f, const void* b, int64_t width, double weight, void* grad) {
  using R = Real<T>;
  const T *gs = static_cast<const T*>(g), *fs = static_cast<const T*>(f), *bs = static_cast<const T*>(b);
  T* out = static_cast<T*>(grad);
  const R w = static_cast<R>(weight);
  double total = 0;
  for (int64_t begin = 0; begin < width; begin += kBlock) {
    const int64_t end = width - begin < kBlock ? width : begin + kBlock;
    R lanes[kLanes] = {};
    int64_t d = begin;
    for (; d + kLanes <= end; d += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const R gd = static_cast<R>(to_float(gs[d + j]));
        const R base = bs ? static_cast<R>(to_float(bs[d + j])) : R{0};
        lanes[j] += gd * (static_cast<R>(to_float(fs[d + j])) - base);
        out[d + j] = from_float<T>(w * gd);
      }
    }
    for (; d < end; ++d) {
      const R gd = static_cast<R>(to_float(gs[d])), base = bs ? static_cast<R>(to_float(bs[d])) : R{0};
      lanes[0] += gd * (static_cast<R>(to_float(fs[d])) - base);
      out[d] = from_float<T>(w * gd);
    }
    for (const R lane : lanes) total += lane;
  }
  return total;
}

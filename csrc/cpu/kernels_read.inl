// Reading of patches; part of kernels.cpp.

// out[i] = data[i * stride] * scale + shift, for a stride known when compiling (0: not known).
template <class T, class U, int64_t kStride>
ZK_INLINE void convert(const T* data, int64_t stride, int64_t count, Real<T> scale, Real<T> shift, U* out) {
  if constexpr (kStride != 0) stride = kStride;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = from_float<U>(static_cast<Real<T>>(to_float(data[i * stride])) * scale + shift);
  }
}

// One row of three interleaved channels, each to its own place.
template <class T, class U>
ZK_INLINE void convert_rgb(const T* __restrict data, int64_t count, const Real<T>* scale, const Real<T>* shift,
                           U* __restrict r, U* __restrict g, U* __restrict b) {
  const Real<T> s0 = scale[0], s1 = scale[1], s2 = scale[2], t0 = shift[0], t1 = shift[1], t2 = shift[2];
  for (int64_t i = 0; i < count; ++i) {
    r[i] = from_float<U>(static_cast<Real<T>>(to_float(data[3 * i])) * s0 + t0);
    g[i] = from_float<U>(static_cast<Real<T>>(to_float(data[3 * i + 1])) * s1 + t1);
    b[i] = from_float<U>(static_cast<Real<T>>(to_float(data[3 * i + 2])) * s2 + t2);
  }
}

template <class T, class U>
void read_rows_as(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
                  int64_t first, int64_t last, void* patch) {
  using R = Real<T>;
  constexpr int64_t kMostChannels = 16;  // converted at a time
  const int64_t channels = image.size[0], height = reading.size[0], width = reading.size[1], step = reading.step;
  const int64_t pitch = reading.channels_last ? channels : 1;  // between neighbours of one output row
  const Span rows = inside(offset[0], image.size[1], height, step);
  const Span columns = inside(offset[1], image.size[2], width, step);
  const int64_t stride = image.stride[2] * step, count = columns.last - columns.first;
  const T* data = static_cast<const T*>(image.data);
  U* out = static_cast<U*>(patch);
  for (int64_t c0 = 0; c0 < channels; c0 += kMostChannels) {
    const int64_t c1 = channels - c0 < kMostChannels ? channels : c0 + kMostChannels;
    R scale[kMostChannels], shift[kMostChannels];
    U fill[kMostChannels];
    for (int64_t c = c0; c < c1; ++c) {
      scale[c - c0] = static_cast<R>(conversion[c]);
      shift[c - c0] = static_cast<R>(conversion[channels + c]);
      fill[c - c0] = from_float<U>(static_cast<R>(conversion[2 * channels + c]) * scale[c - c0] + shift[c - c0]);
    }
    const bool rgb = channels == 3 && image.stride[0] == 1 && stride == 3 && !reading.channels_last;
    for (int64_t i = first; i < last; ++i) {
      const bool covered = i >= rows.first && i < rows.last && count > 0;
      const int64_t begin = covered ? columns.first : width, end = covered ? columns.last : width;
      const T* row = covered ? data + (offset[0] + i * step) * image.stride[1] +
                                   (offset[1] + begin * step) * image.stride[2]
                             : nullptr;
      for (int64_t c = c0; c < c1; ++c) {
        U* line = reading.channels_last ? out + i * width * channels + c : out + (c * height + i) * width;
        for (int64_t j = 0; j < begin; ++j) line[j * pitch] = fill[c - c0];
        for (int64_t j = end; j < width; ++j) line[j * pitch] = fill[c - c0];
        if (!covered || rgb) continue;
        const T* from = row + c * image.stride[0];
        U* to = line + begin * pitch;
        if (pitch != 1) {
          for (int64_t j = 0; j < count; ++j) {
            to[j * pitch] = from_float<U>(static_cast<R>(to_float(from[j * stride])) * scale[c - c0] + shift[c - c0]);
          }
        } else if (stride == 1) {
          convert<T, U, 1>(from, stride, count, scale[c - c0], shift[c - c0], to);
        } else {
          convert<T, U, 0>(from, stride, count, scale[c - c0], shift[c - c0], to);
        }
      }
      if (covered && rgb) {
        U* line = out + i * width + begin;
        convert_rgb<T, U>(row, count, scale, shift, line, line + height * width, line + 2 * height * width);
      }
    }
  }
}

template <class T>
void read_rows_from(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
                    int64_t first, int64_t last, void* patch) {
  with_float(reading.dtype, [&](auto u) {
    read_rows_as<T, decltype(u)>(image, offset, reading, conversion, first, last, patch);
  });
}

void read_rows(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
               int64_t first, int64_t last, void* patch) {
  switch (image.dtype) {
    case kUint8: return read_rows_from<uint8_t>(image, offset, reading, conversion, first, last, patch);
    case kUint16: return read_rows_from<uint16_t>(image, offset, reading, conversion, first, last, patch);
    case kFloat16: return read_rows_from<Half>(image, offset, reading, conversion, first, last, patch);
    case kBfloat16: return read_rows_from<Bfloat>(image, offset, reading, conversion, first, last, patch);
    case kFloat32: return read_rows_from<float>(image, offset, reading, conversion, first, last, patch);
    default: return read_rows_from<double>(image, offset, reading, conversion, first, last, patch);
  }
}

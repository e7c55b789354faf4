// Reading of patches; part of kernels.cpp.

constexpr int64_t kPiece = 256;   // values that are converted at a time before they are narrowed
constexpr int64_t kTouched = 16;  // rows that are brought into the cache before they are converted

// Stores values of the arithmetic's type as U.
template <class U, class R>
ZK_INLINE void store(const R* values, int64_t count, U* out) {
  int64_t i = 0;
#if defined(__F16C__) && defined(__AVX2__)
  if constexpr (std::is_same_v<U, Half> && std::is_same_v<R, float>) {
    for (; i + 8 <= count; i += 8) {
      const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), half);
    }
  }
#endif
  for (; i < count; ++i) out[i] = from_float<U>(values[i]);
}

// out[i] = data[i * stride] * scale + shift, for a stride known when compiling (0: not known).
template <class T, class U, int64_t kStride>
ZK_INLINE void convert(const T* data, int64_t stride, int64_t count, Real<T> scale, Real<T> shift, U* out) {
  using R = Real<T>;
  if constexpr (kStride != 0) stride = kStride;
  if constexpr (std::is_same_v<U, R>) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<R>(to_float(data[i * stride])) * scale + shift;
  } else {
    R piece[kPiece];
    for (int64_t begin = 0; begin < count; begin += kPiece) {
      const int64_t size = count - begin < kPiece ? count - begin : kPiece;
      const T* from = data + begin * stride;
      for (int64_t i = 0; i < size; ++i) piece[i] = static_cast<R>(to_float(from[i * stride])) * scale + shift;
      store(piece, size, out + begin);
    }
  }
}

// Three interleaved bytes a pixel: kRgb pixels are spread over lanes of four, from which a shuffle takes a channel.
#if defined(__AVX512BW__)
constexpr int64_t kRgb = 16, kRgbRead = 16;  // pixels of a vector, and those whose bytes are read
typedef __m512i RgbBytes;
typedef __m512 RgbFloats;
ZK_INLINE RgbBytes rgb_spread(const uint8_t* data) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
  return _mm512_permutexvar_epi32(lanes, _mm512_maskz_loadu_epi32(0x0FFF, data));
}
ZK_INLINE RgbFloats rgb_channel(RgbBytes bytes, int c) {
  const int take = static_cast<int>(0x80808000u) + c;  // one byte, three zeros
  return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(bytes, _mm512_set4_epi32(take + 9, take + 6, take + 3, take)));
}
ZK_INLINE void write_past_cache(float* out, RgbFloats values) { _mm512_stream_ps(out, values); }
#elif defined(__AVX2__)
constexpr int64_t kRgb = 8, kRgbRead = 10;
typedef __m256i RgbBytes;
typedef __m256 RgbFloats;
ZK_INLINE RgbBytes rgb_spread(const uint8_t* data) {
  const __m128i front = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
  const __m128i back = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 12));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(front), back, 1);
}
ZK_INLINE RgbFloats rgb_channel(RgbBytes bytes, int c) {
  const int take = static_cast<int>(0x80808000u) + c;
  const __m128i lane = _mm_setr_epi32(take, take + 3, take + 6, take + 9);
  return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(lane)));
}
ZK_INLINE void write_past_cache(float* out, RgbFloats values) { _mm256_stream_ps(out, values); }
#endif

// Whole vectors of a row of interleaved bytes; returns how many pixels they hold. Past the caches go rows that start
// where a vector may.
ZK_INLINE int64_t convert_rgb_vectors(const uint8_t* data, int64_t count, const float* scale, const float* shift,
                                      float* const out[3], bool past_cache) {
  int64_t i = 0;
#if defined(__AVX2__)
  for (int c = 0; c < 3; ++c) past_cache &= reinterpret_cast<uintptr_t>(out[c]) % sizeof(RgbFloats) == 0;
  for (; i + kRgbRead <= count; i += kRgb) {
    const RgbBytes bytes = rgb_spread(data + 3 * i);
    for (int c = 0; c < 3; ++c) {
      const RgbFloats values = rgb_channel(bytes, c) * scale[c] + shift[c];
      if (past_cache)
        write_past_cache(out[c] + i, values);
      else
        memcpy(out[c] + i, &values, sizeof(values));
    }
  }
#else
  (void)data, (void)count, (void)scale, (void)shift, (void)out, (void)past_cache;
#endif
  return i;
}

// One row of three interleaved channels, each to its own place.
template <class T, class U>
ZK_INLINE void convert_rgb(const T* __restrict data, int64_t count, const Real<T>* scale, const Real<T>* shift,
                           U* __restrict r, U* __restrict g, U* __restrict b, bool past_cache) {
  using R = Real<T>;
  const R s0 = scale[0], s1 = scale[1], s2 = scale[2], t0 = shift[0], t1 = shift[1], t2 = shift[2];
  if constexpr (std::is_same_v<U, R>) {
    int64_t i = 0;
    if constexpr (std::is_same_v<T, uint8_t>) {
      float* const out[3] = {r, g, b};
      i = convert_rgb_vectors(data, count, scale, shift, out, past_cache);
    }
    for (; i < count; ++i) {
      r[i] = static_cast<R>(to_float(data[3 * i])) * s0 + t0;
      g[i] = static_cast<R>(to_float(data[3 * i + 1])) * s1 + t1;
      b[i] = static_cast<R>(to_float(data[3 * i + 2])) * s2 + t2;
    }
  } else {
    R piece[3][kPiece];
    for (int64_t begin = 0; begin < count; begin += kPiece) {
      const int64_t size = count - begin < kPiece ? count - begin : kPiece;
      convert_rgb<T, R>(data + 3 * begin, size, scale, shift, piece[0], piece[1], piece[2], false);
      store(piece[0], size, r + begin);
      store(piece[1], size, g + begin);
      store(piece[2], size, b + begin);
    }
  }
}

// Scale and shift of values in the order of interleaved channels.
template <class R>
struct Pattern {
  int64_t period = 0;  // a multiple of the number of channels
  R scale[kPiece], shift[kPiece];

  void repeat(const R* scales, const R* shifts, int64_t channels) {
    period = kPiece / channels * channels;
    for (int64_t i = 0; i < period; i += channels) {
      for (int64_t c = 0; c < channels; ++c) scale[i + c] = scales[c], shift[i + c] = shifts[c];
    }
  }
};

// A row whose channels are interleaved on both sides.
template <class T, class U>
ZK_INLINE void convert_interleaved(const T* data, int64_t count, const Pattern<Real<T>>& pattern, U* out) {
  using R = Real<T>;
  R piece[kPiece];
  for (int64_t begin = 0; begin < count; begin += pattern.period) {
    const int64_t size = count - begin < pattern.period ? count - begin : pattern.period;
    for (int64_t i = 0; i < size; ++i) {
      piece[i] = static_cast<R>(to_float(data[begin + i])) * pattern.scale[i] + pattern.shift[i];
    }
    store(piece, size, out + begin);
  }
}

// Reads a byte of every cache line. Loads that nothing waits for overlap as prefetches would, and where pages are small
// to the hardware they take half the time.
ZK_INLINE void touch(const void* data, int64_t bytes) {
  const volatile char* byte = static_cast<const volatile char*>(data);
  for (int64_t i = 0; i < bytes; i += 64) (void)byte[i];
  (void)byte[bytes - 1];
}

// One patch, seen as pixels of type T that become values of type U.
template <class T, class U>
class Patch {
  using R = Real<T>;
  static constexpr int64_t kMostChannels = 16;  // of one pass over the rows

 public:
  Patch(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
        bool past_cache, void* out)
      : image_(image),
        reading_(reading),
        conversion_(conversion),
        past_cache_(past_cache),
        out_(static_cast<U*>(out)),
        rows_(inside(offset[0], image.size[1], reading.size[0], reading.step)),
        columns_(inside(offset[1], image.size[2], reading.size[1], reading.step)),
        stride_(image.stride[2] * reading.step),
        pitch_(reading.channels_last ? image.size[0] : 1) {
    const int64_t first = offset[1] + columns_.first * reading.step;
    if (columns_.first == columns_.last || rows_.first == rows_.last)
      rows_ = {0, 0};
    else
      data_ = static_cast<const T*>(image.data) + offset[0] * image.stride[1] + first * image.stride[2];
  }

  void read(int64_t first, int64_t last) {
    for (int64_t c = 0; c < image_.size[0]; c += kMostChannels) read_channels(c, first, last);
  }

 private:
  void read_channels(int64_t c0, int64_t first, int64_t last) {
    const int64_t all = image_.size[0], channels = all - c0 < kMostChannels ? all - c0 : kMostChannels;
    for (int64_t c = 0; c < channels; ++c) {
      scale_[c] = static_cast<R>(conversion_[c0 + c]);
      shift_[c] = static_cast<R>(conversion_[all + c0 + c]);
      fill_[c] = from_float<U>(static_cast<R>(conversion_[2 * all + c0 + c]) * scale_[c] + shift_[c]);
    }
    const bool interleaved = image_.stride[0] == 1 && stride_ == all && channels == all;
    if (interleaved && reading_.channels_last) pattern_.repeat(scale_, shift_, channels);
    for (int64_t i = first; i < last; ++i) {
      if ((i - first) % kTouched == 0) touch_rows(c0, interleaved ? all : 1, channels, i, std::min(i + kTouched, last));
      const bool covered = i >= rows_.first && i < rows_.last;
      for (int64_t c = 0; c < channels; ++c) {
        fill(line(c0 + c, i), 0, covered ? columns_.first : reading_.size[1], fill_[c]);
        fill(line(c0 + c, i), covered ? columns_.last : reading_.size[1], reading_.size[1], fill_[c]);
      }
      if (covered) read_row(c0, channels, i, interleaved);
    }
  }

  void read_row(int64_t c0, int64_t channels, int64_t i, bool interleaved) {
    const T* row = data_ + i * reading_.step * image_.stride[1];
    const int64_t count = columns_.last - columns_.first, at = columns_.first * pitch_;
    if (interleaved && reading_.channels_last) {
      return convert_interleaved<T, U>(row, count * channels, pattern_, line(0, i) + at);
    }
    if (interleaved && channels == 3) {
      return convert_rgb<T, U>(row, count, scale_, shift_, line(0, i) + at, line(1, i) + at, line(2, i) + at,
                               past_cache_);
    }
    for (int64_t c = 0; c < channels; ++c) {
      const T* from = row + (c0 + c) * image_.stride[0];
      U* to = line(c0 + c, i) + at;
      if (pitch_ != 1) {
        U piece[kPiece];
        for (int64_t begin = 0; begin < count; begin += kPiece) {
          const int64_t size = count - begin < kPiece ? count - begin : kPiece;
          convert<T, U, 0>(from + begin * stride_, stride_, size, scale_[c], shift_[c], piece);
          for (int64_t j = 0; j < size; ++j) to[(begin + j) * pitch_] = piece[j];
        }
      } else if (stride_ == 1) {
        convert<T, U, 1>(from, 1, count, scale_[c], shift_[c], to);
      } else {
        convert<T, U, 0>(from, stride_, count, scale_[c], shift_[c], to);
      }
    }
  }

  // Brings rows of some channels into the cache, `together` of which lie side by side, unless their pixels are so far
  // apart that each has a line of its own.
  void touch_rows(int64_t c0, int64_t together, int64_t channels, int64_t first, int64_t last) const {
    const int64_t bytes = static_cast<int64_t>(sizeof(T)), count = columns_.last - columns_.first;
    if (stride_ * bytes > 64) return;
    const int64_t width = (stride_ * (count - 1) + together) * bytes;
    for (int64_t i = std::max(first, rows_.first); i < std::min(last, rows_.last); ++i) {
      const T* row = data_ + i * reading_.step * image_.stride[1] + c0 * image_.stride[0];
      for (int64_t c = 0; c < channels; c += together) touch(row + c * image_.stride[0], width);
    }
  }
  void fill(U* line, int64_t begin, int64_t end, U value) const {
    for (int64_t j = begin; j < end; ++j) line[j * pitch_] = value;
  }
  U* line(int64_t c, int64_t i) const {
    const int64_t width = reading_.size[1];
    return reading_.channels_last ? out_ + i * width * image_.size[0] + c : out_ + (c * reading_.size[0] + i) * width;
  }

  const ImageView& image_;
  const Reading& reading_;
  const double* conversion_;
  bool past_cache_;
  U* out_;
  Span rows_, columns_;
  int64_t stride_, pitch_;
  const T* data_ = nullptr;  // the first pixel that is read, were row 0 inside
  R scale_[kMostChannels], shift_[kMostChannels];
  U fill_[kMostChannels];
  Pattern<R> pattern_;
};

template <class T>
void read_rows_from(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
                    int64_t first, int64_t last, bool past_cache, void* patch) {
  with_float(reading.dtype, [&](auto u) {
    Patch<T, decltype(u)>(image, offset, reading, conversion, past_cache, patch).read(first, last);
  });
}

void read_rows(const ImageView& image, const int64_t offset[2], const Reading& reading, const double* conversion,
               int64_t first, int64_t last, bool past_cache, void* patch) {
  const auto run = [&](auto t) {
    read_rows_from<decltype(t)>(image, offset, reading, conversion, first, last, past_cache, patch);
  };
  if (image.dtype == kUint8)
    run(uint8_t{});
  else if (image.dtype == kUint16)
    run(uint16_t{});
  else
    with_float(image.dtype, run);
#if defined(__SSE2__)
  if (past_cache) _mm_sfence();  // such writes are not ordered before the end of the task by themselves
#endif
}

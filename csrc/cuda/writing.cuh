// How patches leave a block: pixels are converted and written in the order of the result.
#pragma once

#include <type_traits>

#include "cuda/reading.cuh"

namespace zoomkern::cuda::reading {

// out = pixel * scale + shift, and what stands for a pixel outside; an array for each in shared memory.
template <class R>
struct Rates {
  R *scale, *shift, *outside;

  __device__ __forceinline__ Rates()
      : scale(shared_at<R>(kRatesAt)), shift(scale + kMostChannels), outside(shift + kMostChannels) {}

  __device__ __forceinline__ void load(const Gathering& call, const Task& task) const {
    for (int c = threadIdx.x; c < task.channels; c += kGatherThreads) {
      scale[c] = static_cast<R>(constant_at(call.constants, task.channel + c));
      shift[c] = static_cast<R>(constant_at(call.constants, call.channels + task.channel + c));
      outside[c] =
          static_cast<R>(constant_at(call.constants, 2 * call.channels + task.channel + c)) * scale[c] + shift[c];
    }
  }
};

__device__ __forceinline__ void load_rates(const Gathering& call, const Task& task) {
  if (task.image.dtype == kFloat64)
    Rates<double>().load(call, task);
  else
    Rates<float>().load(call, task);
}

// Values that are stored at once.
template <class U, int kWide>
struct alignas(kWide * sizeof(U)) Values {
  U value[kWide];
};

// A row of a patch, or a part of it: its pixels and where they go. Of `cycle` channels that lie side by side in both,
// or of one.
template <class T, class U, class Pitch>
struct Run {
  const T* from;    // the pixel of column `first`
  Pitch pitch;      // elements from pixel to pixel
  int first, last;  // columns that are inside the image
  int columns, cycle;
  int channel;       // the first, as Rates count them
  U* to;             // of column 0
  int64_t to_pitch;  // elements from column to column
};

// Written by one warp, kWide values a lane; more than one only where the run is contiguous.
template <int kWide, bool kCycle, class T, class U, class Pitch>
__device__ __forceinline__ void write_run(const Run<T, U, Pitch>& run) {
  using R = decltype(to_float(T{}));
  const Rates<R> rates;
  const R scale = rates.scale[run.channel], shift = rates.shift[run.channel], outside = rates.outside[run.channel];
  const unsigned first = run.first, inside = run.last - run.first;
  const unsigned cycle = kCycle ? run.cycle : 1, total = run.columns * cycle, jump = kWarp * kWide;
  const unsigned start = threadIdx.x % kWarp * kWide;
  unsigned column = start / cycle, channel = start % cycle;
  for (unsigned i = start; i < total; i += jump) {
    Values<U, kWide> values;
    unsigned j = column, c = channel;
    for (int k = 0; k < kWide; ++k) {
      R value = kCycle ? rates.outside[c] : outside;
      if (j - first < inside) {
        const R pixel = to_float(run.from[static_cast<Pitch>(j - first) * run.pitch + static_cast<int>(c)]);
        value = kCycle ? pixel * rates.scale[c] + rates.shift[c] : pixel * scale + shift;
      }
      values.value[k] = from_float<U>(value);
      if (++c == cycle) c = 0, ++j;
    }
    U* const to = run.to + (kWide > 1 ? i : column * run.to_pitch + channel);
    *reinterpret_cast<Values<U, kWide>*>(to) = values;
    column += jump / cycle;
    channel += jump % cycle;
    if (channel >= cycle) channel -= cycle, ++column;
  }
}

// A warp writes a row of one channel, or with kCycle of all that its line holds.
template <class T, class U, int kWide, bool kCycle, bool kStaged>
__device__ __forceinline__ void write_lines(const Gathering& call, const Task& task, const Part& part) {
  const int64_t height = call.reading.size[0], width = call.reading.size[1], channels = call.channels;
  const int runs = kCycle ? 1 : task.group;
  for (int i = threadIdx.x / kWarp; i < part.lines * runs; i += kGatherThreads / kWarp) {
    const auto [own, ahead] = divide(i, runs);
    const auto [before, line] = divide(part.line + own, task.rows);
    const int channel = before + ahead;
    const uintptr_t at = task.starts[own];
    const int64_t row = task.row + line, c = task.channel + channel;
    const int64_t to = call.reading.channels_last ? ((task.patch * height + row) * width + part.column) * channels + c
                                                  : ((task.patch * channels + c) * height + row) * width + part.column;
    Run<T, U, std::conditional_t<kStaged, int, int64_t>> run;
    run.from = kStaged ? shared_at<T>(own * task.slot + at % kWord) + ahead : reinterpret_cast<const T*>(at);
    if constexpr (kStaged)
      run.pitch = task.pitch;
    else
      run.pitch = task.image.stride[2] * call.reading.step;
    run.first = at ? part.first(task) - part.column : 0;
    run.last = at ? part.last(task) - part.column : 0;
    run.columns = part.columns;
    run.cycle = task.group;
    run.channel = channel;
    run.to = static_cast<U*>(call.out) + to;
    run.to_pitch = call.reading.channels_last ? channels : 1;
    write_run<kWide, kCycle>(run);
  }
}

template <class T, class U>
__device__ __forceinline__ void write(const Gathering& call, const Task& task, const Part& part) {
  constexpr int kWide = kWord / sizeof(U);
  if (task.slot == 0) return write_lines<T, U, 1, false, false>(call, task, part);
  const bool cycle = call.reading.channels_last && task.group > 1;
  const bool dense = !call.reading.channels_last || task.group == call.channels;
  const bool wide = call.aligned && dense && call.reading.size[1] * (cycle ? task.group : 1) % kWide == 0;
  if (cycle && wide) return write_lines<T, U, kWide, true, true>(call, task, part);
  if (cycle) return write_lines<T, U, 1, true, true>(call, task, part);
  if (wide) return write_lines<T, U, kWide, false, true>(call, task, part);
  write_lines<T, U, 1, false, true>(call, task, part);
}

template <class U>
__device__ __forceinline__ void write_as(const Gathering& call, const Task& task, const Part& part) {
  switch (task.image.dtype) {
    case kUint8:
      return write<uint8_t, U>(call, task, part);
    case kUint16:
      return write<uint16_t, U>(call, task, part);
    case kFloat16:
      return write<Half, U>(call, task, part);
    case kBfloat16:
      return write<Bfloat, U>(call, task, part);
    case kFloat32:
      return write<float, U>(call, task, part);
    default:
      return write<double, U>(call, task, part);
  }
}

}  // namespace zoomkern::cuda::reading

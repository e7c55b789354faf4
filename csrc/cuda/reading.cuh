// How patches come from images to a block: what it works on, and the bytes that it brings into shared memory.
#pragma once

#include <algorithm>

#include "cuda/images.cuh"
#include "cuda/team.cuh"

namespace zoomkern::cuda::reading {

constexpr int kGatherThreads = 384;
constexpr int kStage = 32 << 10;  // bytes of an image that a block holds at a time
constexpr int kLine = 128, kWord = 16;
constexpr int kLoads = 6;           // words that a thread has under way
constexpr int kMostChannels = 128;  // that are read together
constexpr int kColumns = 8;         // a part of a row is a multiple of it, so that wide stores stay aligned

// A window along one axis: positions [first, last) of the patch are inside the image.
struct Stretch {
  int64_t offset;
  int first, last;
};

// What a block works on: rows of a patch, for some channels at a time. It sees them as lines, each a row of `group`
// channels that lie side by side; the lines of the first channel come before those of the next.
struct Task {
  ImageView image;
  Stretch down, across;
  uintptr_t begin, end;    // of the image's own bytes
  int64_t patch, channel;  // the first of the channels
  int row, rows, channels, group;
  int bytes, pitch;                  // of a value; from pixel to pixel
  int slot;                          // bytes of shared memory for each line; 0: they are not brought there
  int lines, columns;                // that are read at a time
  uintptr_t starts[kGatherThreads];  // of these lines, the first byte that is read; 0: none is inside the image
};

constexpr size_t kTaskAt = kStage, kRatesAt = kTaskAt + sizeof(Task);
constexpr size_t kGatherShared = kRatesAt + 3 * kMostChannels * sizeof(double);

// Where the patches are: at given offsets, or at those of drawn items, which are told.
struct Where {
  const int64_t* offsets;  // [B, N, 2]
  const int64_t* index;    // [B, N]; null: offsets are given
  Places places;
  int64_t* told;  // [B, N, 2]
};

// One launch.
struct Gathering {
  Images images;
  Constants constants;
  Where where;
  Reading reading;
  int64_t draws, channels;
  int64_t first, tasks;  // the first patch, and the tasks in all
  int64_t slices;        // of kMostChannels channels, for each patch
  int bands, rows;       // of each slice, and of each band
  bool aligned;          // whether `out` starts on a multiple of 16 bytes
  void* out;
  Fault* fault;
};

// An image without pixels stands for one whose descriptor cannot be right.
__device__ __forceinline__ ImageView readable_image(const Gathering& call, int64_t b) {
  const ImageView image = image_at(call.images, b);
  const bool known = image.dtype >= 0 && image.dtype < kDtypes && image.size[0] == call.channels;
  if (known && reinterpret_cast<uintptr_t>(image.data) % dtype_bytes(image.dtype) == 0) return image;
  note(call.fault, kUnknownPixels, b, image.dtype);
  return {nullptr, {}, {}, kUint8};
}

__device__ __forceinline__ Stretch find_stretch(const Gathering& call, const Task& task, int axis) {
  const Where& where = call.where;
  const int64_t patch = task.patch, b = patch / call.draws;
  const int64_t offset = where.index ? place_item(where.places, task.image, call.reading, axis, b, where.index[patch])
                                     : place(task.image, call.reading, axis, where.offsets[2 * patch + axis]);
  if (where.index && task.row == 0 && task.channel == 0) where.told[2 * patch + axis] = offset;
  const Span span = inside(offset, task.image.size[1 + axis], call.reading.size[axis], call.reading.step);
  return {offset, static_cast<int>(span.first), static_cast<int>(span.last)};
}

// Everything that is the same for all lines of the task, found by one thread.
__device__ __forceinline__ void plan(const Reading& reading, Task& task) {
  const ImageView& image = task.image;
  const int64_t stride = image.stride[2], step = reading.step;
  const int width = static_cast<int>(reading.size[1]);
  task.bytes = static_cast<int>(dtype_bytes(image.dtype));
  task.begin = reinterpret_cast<uintptr_t>(image.data);
  task.end = task.begin + task.bytes;
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t reach = (image.size[axis] - 1) * image.stride[axis] * task.bytes;
    (reach < 0 ? task.begin : task.end) += reach;
  }
  task.group = image.stride[0] == 1 ? task.channels : 1;
  task.lines = kGatherThreads;
  task.columns = width;
  task.slot = 0;
  // Through shared memory go pixels the gap between which is shorter than what is loaded at once anyway.
  if (stride >= 0 && stride <= kStage && step <= kStage && (stride * step - task.group) * task.bytes < kLine) {
    task.pitch = static_cast<int>(stride * step);
    const int fitting = ((kStage - 2 * kWord) / task.bytes - task.group) / std::max(task.pitch, 1) + 1;
    if (width > fitting) task.columns = fitting / kColumns * kColumns;
    const int most = ((task.columns - 1) * task.pitch + task.group) * task.bytes;
    task.slot = (most + 2 * (kWord - 1)) / kWord * kWord;
    task.lines = std::min(task.lines, kStage / task.slot);
  } else {
    task.group = 1;
  }
}

// By one warp.
__device__ __forceinline__ void begin(const Gathering& call, int64_t number, Task& task) {
  if (threadIdx.x == 0) {
    const int64_t slice = number / call.bands;
    task.patch = call.first + slice / call.slices;
    task.channel = slice % call.slices * kMostChannels;
    task.channels = static_cast<int>(std::min<int64_t>(kMostChannels, call.channels - task.channel));
    task.row = static_cast<int>(number % call.bands) * call.rows;
    task.rows = static_cast<int>(std::min<int64_t>(call.rows, call.reading.size[0] - task.row));
    task.image = readable_image(call, task.patch / call.draws);
    plan(call.reading, task);
  }
  __syncwarp();
  if (threadIdx.x == 0) task.down = find_stretch(call, task, 0);
  if (threadIdx.x == 1) task.across = find_stretch(call, task, 1);
}

// Both results of one division of numbers that are not negative.
struct Divided {
  int quotient, rest;
};
__device__ __forceinline__ Divided divide(int a, int b) {
  const auto quotient = static_cast<int>(static_cast<unsigned>(a) / static_cast<unsigned>(b));
  return {quotient, a - quotient * b};
}

// Some lines and columns of a task.
struct Part {
  int line, lines, column, columns;

  // Columns inside the image.
  __device__ __forceinline__ int first(const Task& task) const { return std::max(column, task.across.first); }
  __device__ __forceinline__ int last(const Task& task) const { return std::min(column + columns, task.across.last); }
  // Bytes of a line.
  __device__ __forceinline__ int length(const Task& task) const {
    const int pixels = last(task) - first(task);
    return pixels <= 0 ? 0 : ((pixels - 1) * task.pitch + task.group) * task.bytes;
  }
};

__device__ __forceinline__ void copy_bytes(uintptr_t from, uintptr_t end, size_t to) {
  for (; from < end; ++from, ++to) *shared_at<uint8_t>(to) = *reinterpret_cast<const uint8_t*>(from);
}

// A thread finds one line, and brings the bytes of its first and last word if the image owns these words in part only.
__device__ __forceinline__ void find_line(int64_t step, Task& task, const Part& part) {
  const int thread = threadIdx.x, first = part.first(task);
  const auto [channel, line] = divide(part.line + thread, task.rows);
  const int row = task.row + line;
  if (thread >= part.lines) return;
  uintptr_t from = 0;
  if (row >= task.down.first && row < task.down.last && first < part.last(task)) {
    const int64_t c = task.channel + channel, y = task.down.offset + row * step;
    const int64_t x = task.across.offset + first * step;
    const int64_t element = c * task.image.stride[0] + y * task.image.stride[1] + x * task.image.stride[2];
    from = reinterpret_cast<uintptr_t>(task.image.data) + element * task.bytes;
    if (task.slot > 0) {
      const uintptr_t end = from + part.length(task), low = from / kWord * kWord, high = (end - 1) / kWord * kWord;
      const size_t to = thread * task.slot;
      if (low < task.begin) copy_bytes(from, std::min(end, low + kWord), to + (from - low));
      if (high + kWord > task.end) copy_bytes(std::max(from, high), end, to + (std::max(from, high) - low));
    }
  }
  task.starts[thread] = from;
}

// All other words. They are counted from multiples of a line of memory: no two warps ask for parts of the same one.
__device__ __forceinline__ void load(const Task& task, const Part& part) {
  const int bytes = part.length(task), words = ((bytes + kLine - 2) / kLine + 1) * (kLine / kWord);
  for (int begin = threadIdx.x; begin < part.lines * words; begin += kLoads * kGatherThreads) {
    uint4 word[kLoads];
    int to[kLoads];
    for (int k = 0; k < kLoads; ++k) {
      const auto [line, own] = divide(begin + k * kGatherThreads, words);
      const uintptr_t from = line < part.lines ? task.starts[line] : 0;
      const uintptr_t at = from / kLine * kLine + own * kWord;
      to[k] = -1;
      if (from == 0 || at + kWord <= from || at >= from + bytes || at < task.begin || at + kWord > task.end) continue;
      word[k] = __ldg(reinterpret_cast<const uint4*>(at));
      to[k] = line * task.slot + static_cast<int>(at - from / kWord * kWord);
    }
    for (int k = 0; k < kLoads; ++k) {
      if (to[k] >= 0) *shared_at<uint4>(to[k]) = word[k];
    }
  }
}

}  // namespace zoomkern::cuda::reading

// Reading of patches. A block takes a band of rows of one patch at a time. Rows whose pixels lie closely come into
// shared memory as they are, by 16-byte loads that share whole 128-byte lines of a link to the host; from there they
// are converted. Other pixels are loaded one by one.
#pragma once

#include "cuda/writing.cuh"

namespace zoomkern::cuda::reading {

template <class U>
__global__ void __launch_bounds__(kGatherThreads, 2) gather_patches(const __grid_constant__ Gathering call) {
  Task& task = *shared_at<Task>(kTaskAt);
  const auto width = static_cast<unsigned>(call.reading.size[1]);
  for (int64_t number = blockIdx.x; number < call.tasks; number += gridDim.x) {
    if (threadIdx.x < kWarp) begin(call, number, task);
    __syncthreads();
    load_rates(call, task);
    const int lines = task.rows * (task.channels / task.group);
    for (int line = 0; line < lines; line += task.lines) {
      for (unsigned column = 0; column < width; column += task.columns) {
        const auto from = static_cast<int>(column), columns = std::min(task.columns, static_cast<int>(width - column));
        const Part part = {line, std::min(task.lines, lines - line), from, columns};
        find_line(call.reading.step, task, part);
        __syncthreads();
        if (task.slot > 0) load(task, part);
        __syncthreads();
        write_as<U>(call, task, part);
        __syncthreads();
      }
    }
  }
}

}  // namespace zoomkern::cuda::reading

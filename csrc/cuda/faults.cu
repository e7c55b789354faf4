#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "cuda/faults.hpp"
#include "cuda/launch.hpp"
#include "stable/complaints.hpp"

namespace zoomkern::cuda {

namespace {

constexpr int kMostDevices = 64;

bool check_at_once() {
  const char* value = std::getenv("ZOOMKERN_CHECK");
  return value && std::string_view(value) == "1";
}

// Memory that the host reads without waiting and every device writes; it lives as long as the process.
Fault* all_faults() {
  static Fault* const faults = [] {
    // A stream that is being captured forbids allocations to whoever does not ask for leave.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode), "leaving the capture mode");
    void* memory = nullptr;
    const cudaError_t error =
        cudaHostAlloc(&memory, kMostDevices * sizeof(Fault), cudaHostAllocPortable | cudaHostAllocMapped);
    check(cudaThreadExchangeStreamCaptureMode(&mode), "going back to the capture mode");
    check(error, "allocating page-locked memory");
    Fault* const faults = static_cast<Fault*>(memory);
    std::fill_n(faults, kMostDevices, Fault{});
    return faults;
  }();
  return faults;
}

std::string complaint(const Fault& fault) {
  switch (fault.kind) {
    case kNan:
    case kInfinity:
      return complain_of_value(fault.kind == kNan, fault.row, fault.number);
    case kTooFew:
      return complain_of_few(fault.needed, fault.number, fault.row);
    case kUnknownPixels:
      return "table must have known pixel types, the conversion's channels and aligned addresses; not so in "
             "row " +
             std::to_string(fault.row);
    case kBadIndex:
      return "index must be -1 or an item that may be drawn, and -1 behind the items only; got " +
             std::to_string(fault.number) + " in row " + std::to_string(fault.row);
    default:
      return "counts must lie between 0 and num_samples; got " + std::to_string(fault.number) + " in row " +
             std::to_string(fault.row);
  }
}

void raise_noted(Fault& fault, const char* when) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (*static_cast<volatile int*>(&fault.kind) == kNoFault) return;
  std::atomic_thread_fence(std::memory_order_acquire);
  const std::string message = complaint(fault) + when;
  fault.kind = kNoFault;
  std::atomic_thread_fence(std::memory_order_release);
  *static_cast<volatile int*>(&fault.claimed) = 0;  // last: from now on a kernel may write the rest
  throw std::runtime_error(message);
}

}  // namespace

Fault* fault_of(const Queue& queue) {
  require(queue.device() < kMostDevices, "zoomkern: more than 64 CUDA devices");
  Fault* const fault = all_faults() + queue.device();
  raise_noted(*fault, " (Noted by an earlier call on this device; ZOOMKERN_CHECK=1 raises where it happens.)");
  void* on_device = nullptr;
  check(cudaHostGetDevicePointer(&on_device, fault, 0), "mapping page-locked memory");
  return static_cast<Fault*>(on_device);
}

void settle(const Queue& queue) {
  if (!check_at_once()) return;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(queue.stream(), &status), "asking whether the stream is captured");
  if (status != cudaStreamCaptureStatusNone) return;
  check(cudaStreamSynchronize(queue.stream()), "waiting for a kernel");
  raise_noted(all_faults()[queue.device()], "");
}

}  // namespace zoomkern::cuda

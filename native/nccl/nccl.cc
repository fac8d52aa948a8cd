// NCCL, which moves tensors between GPUs. A module of its own: it needs libtorch_cuda.so, which loads only where a driver is.
#define USE_C10D_NCCL

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

/// A group that meets in a store; the caller owns it. It never gives up by itself: who waits for it sees to that.
extern "C" __attribute__((visibility("default"))) c10d::Backend* tinyllava_nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::hours(24 * 365);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options).release();
}

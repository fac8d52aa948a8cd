// The memory of tensors on the CPU.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace tinyllava {
namespace {

/// malloc with room to align by hand. libtorch's own allocator asks for aligned memory, for which glibc before 2.38 takes more than it then uses, so that
/// what was freed is a little too small for the same tensor in the next layer or step, and the heap grows by holes: by a fifth in training.
struct Allocator final : c10::Allocator {
  /// What libtorch aligns by: a cache line, and a vector of AVX-512.
  static constexpr size_t kAlignment = 64;

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &give, c10::Device(c10::kCPU)};
    // malloc aligns by 16 bytes, so that a pointer fits between its begin and the next multiple of 64.
    void* begin = std::malloc(bytes + kAlignment);
    TORCH_CHECK_WITH(OutOfMemoryError, begin, "no memory for ", bytes, " bytes");
    auto* data = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(begin) + kAlignment) / kAlignment * kAlignment);
    data[-1] = begin;
    return {data, data, &give, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  static void give(void* data) {
    if (data) std::free(static_cast<void**>(data)[-1]);
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(c10::kCPU, &allocator);

}  // namespace
}  // namespace tinyllava

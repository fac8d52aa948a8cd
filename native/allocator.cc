// The memory of tensors on the CPU.
#include "allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace tinyllava {
namespace {

/// From here on memory is mapped, by glibc's malloc too: what it would have learned to by itself.
constexpr size_t kLarge = size_t{32} << 20;

/// Where a tensor's memory comes from; stands right before it.
struct Origin {
  void* begin = nullptr;
  size_t mapped = 0;  // bytes, 0 for what malloc gave
};

/// Large pieces of memory, from the system. In malloc's heap small tensors would settle in the hole that one leaves, and the next of its kind would need
/// another. One that is kept serves for what takes at least a quarter of it.
class Mappings {
 public:
  /// Memory of at least so many bytes; none where there is none.
  Origin take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    auto next = kept_.lower_bound(bytes);
    if (next != kept_.end() && next->first / 4 <= bytes) {
      const Origin found{next->second, next->first};
      kept_.erase(next);
      return found;
    }
    // What is too small makes room for it, the largest first.
    for (size_t freed = 0; freed < bytes && next != kept_.begin();) {
      --next;
      freed += next->first;
      ::munmap(next->second, next->first);
      next = kept_.erase(next);
    }
    void* begin = map(bytes);
    if (begin == MAP_FAILED) {
      unmap_kept();
      begin = map(bytes);
    }
    return begin == MAP_FAILED ? Origin{} : Origin{begin, bytes};
  }

  void give(const Origin& origin) {
    const std::lock_guard lock(mutex_);
    if (keeps_) kept_.emplace(origin.mapped, origin.begin);
    else ::munmap(origin.begin, origin.mapped);
  }

  void keep(bool whether) {
    const std::lock_guard lock(mutex_);
    keeps_ = whether;
  }

  void trim() {
    const std::lock_guard lock(mutex_);
    unmap_kept();
  }

 private:
  static void* map(size_t bytes) { return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
  void unmap_kept() {
    for (const auto& [bytes, begin] : kept_) ::munmap(begin, bytes);
    kept_.clear();
  }

  std::mutex mutex_;
  bool keeps_ = false;
  std::multimap<size_t, void*> kept_;
};

Mappings& mappings() {
  static auto* all = new Mappings;  // never destroyed: tensors may be freed while the process ends
  return *all;
}

/// malloc with room to align by hand, but for large tensors. libtorch's own allocator asks for aligned memory, for which glibc before 2.38 takes more than
/// it then uses, so that what was freed is a little too small for the same tensor in the next layer or step, and the heap grows by holes: by a fifth in
/// training.
struct Allocator final : c10::Allocator {
  /// What libtorch aligns by: a cache line, and a vector of AVX-512.
  static constexpr size_t kAlignment = 64;

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &give, c10::Device(c10::kCPU)};
    const size_t all = bytes + sizeof(Origin) + kAlignment;
    const bool fits = all > bytes, large = bytes >= kLarge;
    const Origin origin = !fits ? Origin{} : large ? mappings().take(all) : Origin{std::malloc(all), 0};
    TORCH_CHECK_WITH(OutOfMemoryError, origin.begin, "no memory for ", bytes, " bytes");
    const auto least = reinterpret_cast<uintptr_t>(origin.begin) + sizeof(Origin);
    auto* data = reinterpret_cast<Origin*>((least + kAlignment - 1) / kAlignment * kAlignment);
    data[-1] = origin;
    return {data, data, &give, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  static void give(void* data) {
    if (!data) return;
    const Origin origin = static_cast<Origin*>(data)[-1];
    if (origin.mapped > 0) mappings().give(origin);
    else std::free(origin.begin);
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(c10::kCPU, &allocator);

}  // namespace

void keep_freed_memory(bool whether) {
  mappings().keep(whether);
#ifdef __GLIBC__
  constexpr int kMostMaps = 65536, kLeast = static_cast<int>(kLarge);  // as many as glibc starts with
  ::mallopt(M_MMAP_MAX, whether ? 0 : kMostMaps);
  ::mallopt(M_TRIM_THRESHOLD, whether ? -1 : 2 * kLeast);
  ::mallopt(M_MMAP_THRESHOLD, kLeast);
#endif
  if (!whether) trim_freed_memory();
}

void trim_freed_memory() {
  mappings().trim();
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace tinyllava

// Files as tensors without copying: memory-mapped in, written straight from a tensor's memory out.
#include "value.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tinyllava {

namespace {

/// A whole file in memory, private to this process: what is written to it never reaches the file.
struct Mapping {
  void* data = nullptr;
  size_t length = 0;
  int file = -1;

  explicit Mapping(const std::string& path) : file(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file < 0) throw Misuse(path + ": " + std::strerror(errno));
    struct stat facts;
    const bool known = ::fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
    length = known ? static_cast<size_t>(facts.st_size) : 0;
    data = length > 0 ? ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0) : nullptr;
    const auto error = errno;
    if (!known || data == MAP_FAILED) ::close(file);
    if (!known) throw Misuse(path + ": not a regular file");
    if (data == MAP_FAILED) throw Misuse(path + ": " + std::strerror(error));
  }
  ~Mapping() {
    if (data) ::munmap(data, length);
    ::close(file);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

/// Memory that is filled from front to back, in huge pages where the system has them: weights that are streamed through from ordinary ones reach
/// half of the memory's bandwidth, the other half goes into finding the pages. A huge page is given back with the last tensor on it, so that weights
/// which are converted or freed one by one leave no hole.
class Pages {
 public:
  explicit Pages(size_t bytes) : length_(bytes + kHuge) {
    data_ = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw Misuse("no memory for " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
#ifdef MADV_HUGEPAGE
    if (bytes >= kHuge) ::madvise(data_, length_, MADV_HUGEPAGE);  // otherwise a few bytes would take one whole
#endif
    first_ = static_cast<char*>(data_) + (kHuge - reinterpret_cast<uintptr_t>(data_) % kHuge) % kHuge;
    size_ = static_cast<size_t>(static_cast<char*>(data_) + length_ - first_);
    tensors_.resize(size_ / kHuge + 1);
  }
  ~Pages() { ::munmap(data_, length_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  bool holds(const void* place) const { return place >= first_ && place < first_ + size_; }

  char* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto begin = (used_ + 63) / 64 * 64;
    if (begin > size_ || bytes > size_ - begin) throw Misuse("the pages are full");
    used_ = begin + bytes;
    for (auto page = begin / kHuge; page * kHuge < used_ && bytes > 0; ++page) ++tensors_[page];
    return first_ + begin;
  }

  void give(const char* place, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto begin = static_cast<size_t>(place - first_), end = begin + bytes;
    for (auto page = begin / kHuge; page * kHuge < end && bytes > 0; ++page) {
      if (--tensors_[page] == 0) ::madvise(first_ + page * kHuge, std::min(kHuge, size_ - page * kHuge), MADV_DONTNEED);
    }
  }

 private:
  static constexpr size_t kHuge = size_t{2} << 20;
  void* data_ = nullptr;
  size_t length_ = 0;
  char* first_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
  std::mutex mutex_;
  std::vector<uint32_t> tensors_;
};

using Shared = std::shared_ptr<Mapping>;
using SharedPages = std::shared_ptr<Pages>;
constexpr napi_type_tag kPagesTag = {0x3b6e8f0d91c24a57ULL, 0xa15c7d2e4f80b963ULL};
constexpr napi_type_tag kMappingTag = {0x7c1d5a0be2f94e0bULL, 0x9d3f64a1c5b87e21ULL};

Shared& mapping(const Call& call, size_t i) {
  bool ours = false;
  void* data = nullptr;
  if (i >= call.count || napi_check_object_type_tag(call.env, call.at(i), &kMappingTag, &ours) != napi_ok || !ours ||
      napi_get_value_external(call.env, call.at(i), &data) != napi_ok)
    throw Misuse("expected a mapped file");
  return *static_cast<Shared*>(data);
}

SharedPages& pages(const Call& call, size_t i) {
  bool ours = false;
  void* data = nullptr;
  if (i >= call.count || napi_check_object_type_tag(call.env, call.at(i), &kPagesTag, &ours) != napi_ok || !ours ||
      napi_get_value_external(call.env, call.at(i), &data) != napi_ok)
    throw Misuse("expected pages");
  auto& shared = *static_cast<SharedPages*>(data);
  if (!shared) throw Misuse("the pages were let go");
  return shared;
}

/// pages(bytes): room for tensors of so many bytes together, each rounded up to 64.
napi_value make_pages(const Call& call) {
  const auto bytes = call.integer(0);
  if (bytes < 0 || bytes > (int64_t{1} << 46)) throw Misuse("impossible size");
  auto shared = std::make_unique<SharedPages>(std::make_shared<Pages>(static_cast<size_t>(bytes)));
  napi_value external;
  check(napi_create_external(
            call.env, shared.get(), [](napi_env, void* data, void*) { delete static_cast<SharedPages*>(data); }, nullptr, &external),
        "cannot keep the pages");
  shared.release();
  check(napi_type_tag_object(call.env, external, &kPagesTag), "cannot tag the pages");
  return external;
}

/// A new tensor in the pages, not yet filled.
at::Tensor tensor_in(const SharedPages& room, at::IntArrayRef sizes, const at::TensorOptions& options) {
  const auto bytes = static_cast<size_t>(c10::multiply_integers(sizes)) * options.dtype().itemsize();
  auto* data = room->take(bytes);
  return at::from_blob(data, sizes, [room, data, bytes](void*) { room->give(data, bytes); }, options);
}

/// letGo(pages): no further tensors; the last memory is given back with the last of them, and does not wait for the garbage collector.
napi_value let_go(const Call& call) {
  pages(call, 0).reset();
  return call.undefined();
}

/// place(pages, tensor, dtype): a copy of a tensor of the CPU in the pages; one that is there already, and of this dtype, stays where it is.
napi_value place(const Call& call) {
  const SharedPages room = pages(call, 0);
  const auto tensor = call.tensor(1).detach().contiguous();
  if (!tensor.device().is_cpu()) throw Misuse("expected a tensor of the CPU");
  const auto type = to_dtype(call.integer(2));
  if (type == tensor.scalar_type() && room->holds(tensor.const_data_ptr())) return call.handle(tensor);
  return call.handle(tensor_in(room, tensor.sizes(), tensor.options().dtype(type)).copy_(tensor));
}

/// mapFile(path): [the mapping, its length in bytes].
napi_value map_file(const Call& call) {
  auto shared = std::make_unique<Shared>(std::make_shared<Mapping>(call.string(0)));
  const auto length = static_cast<double>((*shared)->length);
  napi_value external;
  check(napi_create_external(
            call.env, shared.get(), [](napi_env, void* data, void*) { delete static_cast<Shared*>(data); }, nullptr, &external),
        "cannot keep the mapping");
  shared.release();
  check(napi_type_tag_object(call.env, external, &kMappingTag), "cannot tag the mapping");
  napi_value result;
  check(napi_create_array_with_length(call.env, 2, &result), "cannot make an array");
  check(napi_set_element(call.env, result, 0, external), "cannot fill an array");
  check(napi_set_element(call.env, result, 1, call.value(length)), "cannot fill an array");
  return result;
}

struct Extent {
  int64_t offset;
  std::vector<int64_t> sizes;
  at::ScalarType type;
  int64_t bytes;
};

/// Arguments 1 to 3, byte offset, sizes and dtype, of a tensor inside a file.
Extent extent(const Call& call, const Mapping& file) {
  Extent found = {call.integer(1), call.integers(2), to_dtype(call.integer(3)), 0};
  found.bytes = static_cast<int64_t>(c10::elementSize(found.type));
  for (const auto size : found.sizes)
    if (size < 0 || __builtin_mul_overflow(found.bytes, size, &found.bytes)) throw Misuse("impossible shape");
  const auto length = static_cast<int64_t>(file.length);
  if (found.offset < 0 || found.offset > length || found.bytes > length - found.offset) throw Misuse("the tensor lies outside the file");
  return found;
}

/// mapped(mapping, byte offset, sizes, dtype): a tensor over the mapped bytes, which keeps the mapping alive. An offset that
/// the dtype is not aligned to gives a copy.
napi_value mapped(const Call& call) {
  const Shared file = mapping(call, 0);
  const auto [offset, sizes, type, bytes] = extent(call, *file);
  const auto width = c10::elementSize(type);
  const auto options = at::TensorOptions().dtype(type);
  if (bytes == 0) return call.handle(at::empty(sizes, options));
  auto* data = static_cast<char*>(file->data) + offset;
  if (reinterpret_cast<uintptr_t>(data) % width != 0) {
    auto copy = at::empty(sizes, options);
    std::memcpy(copy.data_ptr(), data, static_cast<size_t>(bytes));
    return call.handle(std::move(copy));
  }
  const auto handle = call.addon.tensors.put(at::from_blob(data, sizes, [file](void*) {}, options));
  call.addon.tensors.accounted(handle) = -1;  // pages of a file are no reason to collect garbage
  return call.value(handle);
}

/// read(mapping, byte offset, sizes, dtype[, pages]): a tensor with what the file holds there, read now, in the pages or in memory of its own.
napi_value read_tensor(const Call& call) {
  const Shared file = mapping(call, 0);
  const auto [offset, sizes, type, bytes] = extent(call, *file);
  // Not from the heap, where large blocks that come and go leave gaps that small ones spoil, together as large as the weights.
  const SharedPages room = call.count > 4 ? pages(call, 4) : std::make_shared<Pages>(static_cast<size_t>(bytes));
  const auto tensor = tensor_in(room, sizes, at::TensorOptions().dtype(type));
  auto* data = static_cast<char*>(tensor.mutable_data_ptr());
  std::atomic<int> failure = 0;
  at::parallel_for(0, bytes, int64_t{8} << 20, [&, offset = offset](int64_t begin, int64_t end) {
    while (begin < end) {
      const auto got = ::pread(file->file, data + begin, static_cast<size_t>(end - begin), offset + begin);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return failure.store(got < 0 ? errno : EIO);
      begin += got;
    }
  });
  if (failure != 0) throw Misuse(std::strerror(failure));
  return call.handle(tensor);
}

/// mappedBytes(mapping, byte offset, typed array): copies bytes out.
napi_value mapped_bytes(const Call& call) {
  const Shared file = mapping(call, 0);
  const auto offset = call.integer(1);
  const auto bytes = bytes_of(call, 2);
  if (offset < 0 || static_cast<size_t>(offset) > file->length || bytes.length > file->length - static_cast<size_t>(offset))
    throw Misuse("the bytes lie outside the file");
  if (bytes.length > 0) std::memcpy(bytes.data, static_cast<char*>(file->data) + offset, bytes.length);
  return call.undefined();
}

/// writeTensor(file descriptor, tensor): writes the values in row-major order at the file's position.
napi_value write_tensor(const Call& call) {
  const auto file = static_cast<int>(call.integer(0));
  const auto tensor = call.tensor(1).detach().contiguous().cpu();
  const auto* data = static_cast<const char*>(tensor.const_data_ptr());
  for (size_t left = tensor.nbytes(); left > 0;) {
    const auto written = ::write(file, data, std::min(left, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Misuse(std::strerror(errno));
    data += written;
    left -= static_cast<size_t>(written);
  }
  return call.undefined();
}

}  // namespace

const std::vector<Export> storage_exports = {{"mapFile", map_file},   {"mapped", mapped},           {"mappedBytes", mapped_bytes},
                                            {"pages", make_pages},   {"place", place},             {"read", read_tensor},
                                            {"letGo", let_go},
                                            {"writeTensor", write_tensor}};

}  // namespace tinyllava

// Files as tensors without copying: memory-mapped in, written straight from a tensor's memory out.
#include "value.h"

#include <ATen/ATen.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tinyllava {

namespace {

/// A whole file in memory, private to this process: what is written to it never reaches the file.
struct Mapping {
  void* data = nullptr;
  size_t length = 0;

  explicit Mapping(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw Misuse(path + ": " + std::strerror(errno));
    struct stat facts;
    const bool known = ::fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
    length = known ? static_cast<size_t>(facts.st_size) : 0;
    data = length > 0 ? ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0) : nullptr;
    const auto error = errno;
    ::close(file);
    if (!known) throw Misuse(path + ": not a regular file");
    if (data == MAP_FAILED) {
      data = nullptr;
      throw Misuse(path + ": " + std::strerror(error));
    }
  }
  ~Mapping() {
    if (data) ::munmap(data, length);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

using Shared = std::shared_ptr<Mapping>;
constexpr napi_type_tag kMappingTag = {0x7c1d5a0be2f94e0bULL, 0x9d3f64a1c5b87e21ULL};

Shared& mapping(const Call& call, size_t i) {
  bool ours = false;
  void* data = nullptr;
  if (i >= call.count || napi_check_object_type_tag(call.env, call.at(i), &kMappingTag, &ours) != napi_ok || !ours ||
      napi_get_value_external(call.env, call.at(i), &data) != napi_ok)
    throw Misuse("expected a mapped file");
  return *static_cast<Shared*>(data);
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

/// mapped(mapping, byte offset, sizes, dtype): a tensor over the mapped bytes, which keeps the mapping alive. An offset that
/// the dtype is not aligned to gives a copy.
napi_value mapped(const Call& call) {
  const Shared file = mapping(call, 0);
  const auto offset = call.integer(1);
  const auto sizes = call.integers(2);
  const auto type = to_dtype(call.integer(3));
  const auto width = static_cast<int64_t>(c10::elementSize(type));
  int64_t bytes = width;
  for (const auto size : sizes)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) throw Misuse("impossible shape");
  if (offset < 0 || offset > static_cast<int64_t>(file->length) || bytes > static_cast<int64_t>(file->length) - offset)
    throw Misuse("the tensor lies outside the file");
  const auto options = at::TensorOptions().dtype(type);
  if (bytes == 0) return call.handle(at::empty(sizes, options));
  auto* data = static_cast<char*>(file->data) + offset;
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(width) != 0) {
    auto copy = at::empty(sizes, options);
    std::memcpy(copy.data_ptr(), data, static_cast<size_t>(bytes));
    return call.handle(std::move(copy));
  }
  const auto handle = call.addon.tensors.put(at::from_blob(data, sizes, [file](void*) {}, options));
  call.addon.tensors.accounted(handle) = -1;  // pages of a file are no reason to collect garbage
  return call.value(handle);
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

const std::vector<Export> storage_exports = {{"mapFile", map_file}, {"mapped", mapped}, {"mappedBytes", mapped_bytes}, {"writeTensor", write_tensor}};

}  // namespace tinyllava

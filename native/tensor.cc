// A tensor's facts, its lifetime, and data in and out.
#include "value.h"

#include <ATen/ATen.h>

#include <cstring>
#include <unordered_map>

namespace tinyllava {

Bytes bytes_of(const Call& call, size_t i) {
  bool is_view = false;
  if (i < call.count) napi_is_typedarray(call.env, call.at(i), &is_view);
  if (!is_view) throw Misuse("argument " + std::to_string(i + 1) + ": expected a typed array");
  napi_typedarray_type type;
  size_t length;
  void* data;
  check(napi_get_typedarray_info(call.env, call.at(i), &type, &length, &data, nullptr, nullptr), "cannot read the array");
  static const std::unordered_map<int, size_t> widths = {
      {napi_int8_array, 1},  {napi_uint8_array, 1},   {napi_uint8_clamped_array, 1}, {napi_int16_array, 2},    {napi_uint16_array, 2},   {napi_int32_array, 4},
      {napi_uint32_array, 4}, {napi_float32_array, 4}, {napi_float64_array, 8},       {napi_bigint64_array, 8}, {napi_biguint64_array, 8}};
  return {data, length * widths.at(type)};
}

namespace {

/// from_data(typed array, sizes, dtype): a tensor with a copy of the array's bytes.
napi_value from_data(const Call& call) {
  const auto bytes = bytes_of(call, 0);
  const auto sizes = call.integers(1);
  auto tensor = at::empty(sizes, at::TensorOptions().dtype(to_dtype(call.integer(2))));
  if (tensor.nbytes() != bytes.length)
    throw Misuse("the shape needs " + std::to_string(tensor.nbytes()) + " bytes, the array has " + std::to_string(bytes.length));
  if (bytes.length > 0) std::memcpy(tensor.data_ptr(), bytes.data, bytes.length);
  return call.handle(std::move(tensor));
}

/// to_data(tensor, typed array): copies the values in row-major order into the array, which has just their size.
napi_value to_data(const Call& call) {
  const auto tensor = call.tensor(0).detach().contiguous().cpu();
  const auto bytes = bytes_of(call, 1);
  if (tensor.nbytes() != bytes.length)
    throw Misuse("the tensor has " + std::to_string(tensor.nbytes()) + " bytes, the array " + std::to_string(bytes.length));
  if (bytes.length > 0) std::memcpy(bytes.data, tensor.const_data_ptr(), bytes.length);
  return call.undefined();
}

napi_value shape(const Call& call) { return call.list(call.tensor(0).sizes()); }
napi_value strides(const Call& call) { return call.list(call.tensor(0).strides()); }
napi_value dtype(const Call& call) { return call.value(static_cast<double>(call.tensor(0).scalar_type())); }
napi_value device(const Call& call) { return call.value(call.tensor(0).device().str()); }
napi_value is_contiguous(const Call& call) { return call.value(call.tensor(0).is_contiguous()); }

/// A second handle of the same tensor, for a second owner.
napi_value alias(const Call& call) { return call.handle(call.tensor(0)); }

napi_value free_tensor(const Call& call) {
  const auto accounted = call.addon.tensors.free(call.number(0));
  int64_t total;
  if (accounted > 0) napi_adjust_external_memory(call.env, -accounted, &total);
  return call.undefined();
}

/// dyingHandles(): the buffer that freeDying reads, as an ArrayBuffer over the addon's own memory.
napi_value dying_handles(const Call& call) {
  auto& dying = call.addon.dying;
  napi_value buffer;
  check(napi_create_external_arraybuffer(call.env, dying.data(), sizeof(dying), [](napi_env, void*, void*) {}, nullptr, &buffer),
        "cannot share memory");
  return buffer;
}

/// freeDying(count): frees the handles that JavaScript wrote to the buffer; one call for many tensors.
napi_value free_dying(const Call& call) {
  const auto count = static_cast<size_t>(call.integer(0));
  if (count > call.addon.dying.size()) throw Misuse("more handles than the buffer holds");
  int64_t accounted = 0;
  for (size_t i = 0; i < count; ++i) accounted += std::max<int64_t>(0, call.addon.tensors.free(call.addon.dying[i]));
  int64_t total;
  if (accounted > 0) napi_adjust_external_memory(call.env, -accounted, &total);
  return call.undefined();
}

/// account(tensor): tells the garbage collector how much memory stands behind a handle that no scope will free.
napi_value account(const Call& call) {
  const auto& tensor = call.tensor(0);
  if (!tensor.has_storage() || tensor.is_meta()) return call.undefined();
  auto& accounted = call.addon.tensors.accounted(call.number(0));
  if (accounted != 0) return call.undefined();
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  accounted = bytes;
  int64_t total;
  if (bytes > 0) napi_adjust_external_memory(call.env, bytes, &total);
  return call.undefined();
}

/// [live tensors, bytes of the distinct storages behind them].
napi_value live(const Call& call) {
  std::unordered_map<const void*, size_t> storages;
  call.addon.tensors.each([&](const at::Tensor& tensor) {
    if (tensor.has_storage() && !tensor.is_meta()) storages[tensor.storage().unsafeGetStorageImpl()] = tensor.storage().nbytes();
  });
  int64_t bytes = 0;
  for (const auto& [storage, size] : storages) bytes += static_cast<int64_t>(size);
  return call.list({static_cast<int64_t>(call.addon.tensors.live()), bytes});
}

}  // namespace

const std::vector<Export> tensor_exports = {{"fromData", from_data}, {"toData", to_data},   {"shape", shape},      {"strides", strides},
                                            {"dtype", dtype},        {"device", device},    {"alias", alias},      {"isContiguous", is_contiguous},
                                            {"free", free_tensor},   {"account", account},  {"live", live},
                                            {"freeDying", free_dying}, {"dyingHandles", dying_handles}};

}  // namespace tinyllava

// What every file of the addon shares: the environment's state, the table of tensors behind JavaScript's handles, and
// the arguments of a call. Only this folder sees libtorch.
#pragma once

#define NAPI_VERSION 9
#include <node_api.h>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace tinyllava {

/// A call that JavaScript made wrongly; becomes a NativeError with this message.
struct Misuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Slots of values that JavaScript names by number. A handle is `generation * 2^22 + index`: freeing a slot advances its
/// generation, so that an old handle is recognised, and small handles stay small integers in V8.
template <typename T>
class Table {
 public:
  explicit Table(const char* noun) : noun_(noun) {}

  double put(T value) {
    uint32_t index;
    if (free_.empty()) {
      if (slots_.size() >= kSlots) throw Misuse(std::string("more than 4194304 live handles of kind ") + noun_);
      index = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    auto& slot = slots_[index];
    slot.value = std::move(value);
    slot.live = true;
    ++live_;
    return static_cast<double>(slot.generation) * kSlots + index;
  }

  T& get(double handle) { return find(handle).value; }

  /// Empties the slot and returns the bytes that were accounted to the garbage collector for it.
  int64_t free(double handle) {
    auto& slot = find(handle);
    T dying = std::move(slot.value);
    slot.value = T();
    slot.live = false;
    ++slot.generation;
    --live_;
    const auto index = static_cast<uint32_t>(&slot - slots_.data());
    if (slot.generation < kGenerations) free_.push_back(index);
    return std::exchange(slot.accounted, 0);
  }

  int64_t& accounted(double handle) { return find(handle).accounted; }
  size_t live() const { return live_; }

  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& slot : slots_)
      if (slot.live) visit(slot.value);
  }

 private:
  struct Slot {
    T value;
    uint32_t generation = 1;
    bool live = false;
    int64_t accounted = 0;  // bytes; -1 where they shall not count
  };
  static constexpr uint32_t kSlots = 1u << 22;
  static constexpr uint32_t kGenerations = 1u << 31;

  Slot& find(double handle) {
    if (handle >= kSlots && handle < static_cast<double>(kGenerations) * kSlots) {
      const auto code = static_cast<uint64_t>(handle);
      const auto index = static_cast<uint32_t>(code % kSlots);
      if (static_cast<double>(code) == handle && index < slots_.size()) {
        auto& slot = slots_[index];
        if (slot.live && slot.generation == code / kSlots) return slot;
        throw Misuse(std::string("the ") + noun_ + " was freed");
      }
    }
    throw Misuse(std::string("not a handle of a ") + noun_);
  }

  const char* noun_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
};

/// The state of one Node environment (the main thread and each worker have their own).
struct Addon {
  explicit Addon(napi_env e) : env(e) {}
  napi_env env;
  Table<at::Tensor> tensors{"tensor"};
  Table<at::Generator> generators{"generator"};
  Table<std::shared_ptr<void>> groups{"process group"};
  Table<std::shared_ptr<void>> flights{"collective on its way"};
  napi_ref make_error = nullptr;
  std::array<double, 4096> dying{};  // shared with JavaScript, which lists here the handles that a scope frees
  std::vector<std::shared_ptr<void>> operators;  // what the bound functions point to
};

/// Throws Misuse unless Node's call succeeded.
void check(napi_status status, const char* what);

/// Turns the C++ exception in flight into a JavaScript one, without C++ backtraces in its message.
void rethrow(Addon& addon, const char* where);

/// The arguments of one call from JavaScript.
class Call {
 public:
  static constexpr size_t kMost = 10;
  Call(Addon& addon, napi_callback_info info);

  Addon& addon;
  napi_env env;
  size_t count = kMost;

  napi_value at(size_t i) const { return i < count ? values_[i] : nullptr; }
  bool absent(size_t i) const;
  double number(size_t i) const;
  int64_t integer(size_t i) const;
  bool boolean(size_t i) const;
  std::string string(size_t i) const;
  at::Tensor& tensor(size_t i) const { return addon.tensors.get(number(i)); }
  std::vector<int64_t> integers(size_t i) const;
  std::vector<at::Tensor> tensor_list(size_t i) const;

  napi_value undefined() const;
  napi_value null() const;
  napi_value value(double number) const;
  napi_value value(bool flag) const;
  napi_value value(const std::string& text) const;
  napi_value handle(at::Tensor tensor) const { return tensor.defined() ? value(addon.tensors.put(std::move(tensor))) : null(); }
  napi_value handles(const std::vector<at::Tensor>& list) const;
  napi_value list(at::IntArrayRef numbers) const;

 private:
  napi_value values_[kMost];
};

using Method = napi_value (*)(const Call&);

/// One row of the export table.
struct Export {
  const char* name;
  Method method;
};

/// Memory of one array buffer view, and how long it is.
struct Bytes {
  void* data;
  size_t length;
};
Bytes bytes_of(const Call& call, size_t i);

extern const std::vector<Export> dispatch_exports;
extern const std::vector<Export> tensor_exports;
extern const std::vector<Export> autograd_exports;
extern const std::vector<Export> device_exports;
extern const std::vector<Export> storage_exports;
extern const std::vector<Export> distributed_exports;

}  // namespace tinyllava

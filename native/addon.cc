// The export table, and what every call goes through: its arguments and its errors.
#include "addon.h"

#include "value.h"

#include <c10/util/Exception.h>

#include <cstdlib>

namespace tinyllava {

void check(napi_status status, const char* what) {
  if (status != napi_ok) throw Misuse(what);
}

void rethrow(Addon& addon, const char* where) {
  std::string message;
  try {
    throw;
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    message = "out of memory";
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
    message = "unknown C++ exception";
  }
  bool pending = false;
  napi_is_exception_pending(addon.env, &pending);
  if (pending) return;
  message = std::string(where) + ": " + message;
  napi_value factory = nullptr;
  napi_value text = nullptr;
  napi_value error = nullptr;
  napi_value global = nullptr;
  napi_get_global(addon.env, &global);
  if (addon.make_error && napi_get_reference_value(addon.env, addon.make_error, &factory) == napi_ok &&
      napi_create_string_utf8(addon.env, message.data(), message.size(), &text) == napi_ok &&
      napi_call_function(addon.env, global, factory, 1, &text, &error) == napi_ok) {
    napi_throw(addon.env, error);
  } else {
    napi_throw_error(addon.env, nullptr, message.c_str());
  }
}

Call::Call(Addon& a, napi_callback_info info) : addon(a), env(a.env) {
  check(napi_get_cb_info(env, info, &count, values_, nullptr, nullptr), "cannot read the arguments");
  if (count > kMost) throw Misuse("too many arguments");
}

bool Call::absent(size_t i) const {
  if (i >= count) return true;
  napi_valuetype type;
  check(napi_typeof(env, values_[i], &type), "cannot read an argument");
  return type == napi_undefined || type == napi_null;
}

double Call::number(size_t i) const {
  double result;
  if (i >= count || napi_get_value_double(env, values_[i], &result) != napi_ok)
    throw Misuse("argument " + std::to_string(i + 1) + ": expected a number");
  return result;
}

int64_t Call::integer(size_t i) const { return to_integer(number(i)); }

bool Call::boolean(size_t i) const {
  bool result;
  if (i >= count || napi_get_value_bool(env, values_[i], &result) != napi_ok)
    throw Misuse("argument " + std::to_string(i + 1) + ": expected true or false");
  return result;
}

std::string Call::string(size_t i) const { return to_string(env, at(i)); }
std::vector<int64_t> Call::integers(size_t i) const { return to_integers(env, at(i)); }
std::vector<at::Tensor> Call::tensor_list(size_t i) const { return to_tensors(addon, at(i)); }

napi_value Call::undefined() const {
  napi_value result;
  check(napi_get_undefined(env, &result), "no undefined");
  return result;
}

napi_value Call::null() const {
  napi_value result;
  check(napi_get_null(env, &result), "no null");
  return result;
}

napi_value Call::value(double number) const {
  napi_value result;
  check(napi_create_double(env, number, &result), "cannot make a number");
  return result;
}

napi_value Call::value(bool flag) const {
  napi_value result;
  check(napi_get_boolean(env, flag, &result), "cannot make a boolean");
  return result;
}

napi_value Call::value(const std::string& text) const {
  napi_value result;
  check(napi_create_string_utf8(env, text.data(), text.size(), &result), "cannot make a string");
  return result;
}

napi_value Call::handles(const std::vector<at::Tensor>& tensors) const {
  napi_value result;
  check(napi_create_array_with_length(env, tensors.size(), &result), "cannot make an array");
  for (size_t i = 0; i < tensors.size(); ++i) check(napi_set_element(env, result, i, handle(tensors[i])), "cannot fill an array");
  return result;
}

napi_value Call::list(at::IntArrayRef numbers) const {
  napi_value result;
  check(napi_create_array_with_length(env, numbers.size(), &result), "cannot make an array");
  for (size_t i = 0; i < numbers.size(); ++i)
    check(napi_set_element(env, result, i, value(static_cast<double>(numbers[i]))), "cannot fill an array");
  return result;
}

namespace {

struct Entry {
  Addon* addon;
  const Export* row;
};

napi_value enter(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto* entry = static_cast<const Entry*>(data);
  try {
    return entry->row->method(Call(*entry->addon, info));
  } catch (...) {
    rethrow(*entry->addon, entry->row->name);
    return nullptr;
  }
}

/// What one environment owns; deleted when it ends.
struct Instance {
  explicit Instance(napi_env env) : addon(env) {}
  Addon addon;
  std::vector<std::unique_ptr<Entry>> entries;
};

/// libtorch's own warnings go nowhere unless someone is looking for them: a library is silent.
struct NoWarnings : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};
NoWarnings no_warnings;

/// Products of every new shape get kernels of their own, half a megabyte and more, and oneDNN and ideep, which PyTorch reaches it through, each keep those of 1024
/// shapes. Sequences of all lengths would fill that and gain nothing, for a large model's pass has a few dozen shapes; a small one makes up in passes for
/// their number.
void keep_few_kernels() {
  static const bool once = [] {
    for (const char* name : {"ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"}) ::setenv(name, "256", /*overwrite=*/0);
    return true;
  }();
  (void)once;
}

napi_value set_error_factory(const Call& call) {
  if (call.addon.make_error) check(napi_delete_reference(call.env, call.addon.make_error), "cannot replace the error factory");
  check(napi_create_reference(call.env, call.at(0), 1, &call.addon.make_error), "expected a function");
  return call.undefined();
}

const std::vector<Export> own_exports = {{"setErrorFactory", set_error_factory}};

}  // namespace

NAPI_MODULE_INIT() {
  keep_few_kernels();
  if (!std::getenv("TINYLLAVA_DEBUG")) c10::WarningUtils::set_warning_handler(&no_warnings);
  auto* instance = new Instance(env);
  napi_set_instance_data(
      env, instance, [](napi_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr);
  for (const auto* table : {&own_exports, &dispatch_exports, &tensor_exports, &autograd_exports, &device_exports, &storage_exports,
                            &distributed_exports}) {
    for (const auto& row : *table) {
      auto entry = std::make_unique<Entry>(Entry{&instance->addon, &row});
      napi_value function;
      if (napi_create_function(env, row.name, NAPI_AUTO_LENGTH, enter, entry.get(), &function) != napi_ok ||
          napi_set_named_property(env, exports, row.name, function) != napi_ok)
        return nullptr;
      instance->entries.push_back(std::move(entry));
    }
  }
  return exports;
}

}  // namespace tinyllava

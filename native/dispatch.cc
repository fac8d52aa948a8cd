// Every ATen operator through the dispatcher's boxed call. An operator is looked up once and becomes a JavaScript
// function whose conversions are already worked out.
#include "value.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace tinyllava {

namespace {

struct Argument {
  Kind kind;
  bool optional;
  std::optional<c10::IValue> fallback;
  std::string name;
};

}  // namespace

/// A call that skips the boxes, for the few signatures that most calls have: about a tenth of a microsecond less.
struct FastPath {
  virtual ~FastPath() = default;
  /// False when the arguments are not the plain ones, so that the boxed path converts or refuses them.
  virtual bool call(Addon& addon, const napi_value* values, size_t count, at::Tensor& result) const = 0;
};

struct Operator {
  Addon* addon;
  std::string name;
  std::optional<c10::OperatorHandle> handle;
  std::vector<Argument> arguments;
  std::vector<bool> returned;  // false where the result is an argument that was written in place
  c10::Stack stack;
  std::unique_ptr<FastPath> fast;
};

namespace {

constexpr size_t kMostArguments = 24;

std::optional<c10::OperatorHandle> find(const std::string& name, const std::string& overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

napi_value results(Operator& op, size_t count) {
  const auto env = op.addon->env;
  napi_value result = nullptr;
  if (count == 0) {
    check(napi_get_undefined(env, &result), "no undefined");
  } else if (count == 1) {
    for (size_t i = 0; i < op.returned.size(); ++i)
      if (op.returned[i]) result = from_ivalue(*op.addon, std::move(op.stack[i]));
  } else {
    check(napi_create_array_with_length(env, count, &result), "cannot make an array");
    uint32_t next = 0;
    for (size_t i = 0; i < op.returned.size(); ++i)
      if (op.returned[i]) check(napi_set_element(env, result, next++, from_ivalue(*op.addon, std::move(op.stack[i]))), "cannot fill an array");
  }
  return result;
}

bool read_tensor(Addon& addon, napi_value value, const at::Tensor*& tensor) {
  double handle;
  if (napi_get_value_double(addon.env, value, &handle) != napi_ok) return false;
  tensor = &addon.tensors.get(handle);
  return true;
}

using Unary = at::Tensor(const at::Tensor&);
using Binary = at::Tensor(const at::Tensor&, const at::Tensor&);
using Scaled = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Scalar&);
using Scalar = at::Tensor(const at::Tensor&, const at::Scalar&);
using Shaped = at::Tensor(const at::Tensor&, c10::SymIntArrayRef);

template <typename Signature>
struct Typed final : FastPath {
  explicit Typed(const c10::OperatorHandle& handle) : op(handle.typed<Signature>()) {}
  c10::TypedOperatorHandle<Signature> op;

  bool call(Addon& addon, const napi_value* values, size_t count, at::Tensor& result) const override {
    const at::Tensor* self;
    const at::Tensor* other;
    if (count < 1 || !read_tensor(addon, values[0], self)) return false;
    if constexpr (std::is_same_v<Signature, Unary>) {
      if (count != 1) return false;
      result = op.call(*self);
    } else if constexpr (std::is_same_v<Signature, Binary>) {
      if (count != 2 || !read_tensor(addon, values[1], other)) return false;
      result = op.call(*self, *other);
    } else if constexpr (std::is_same_v<Signature, Scaled>) {
      if (count < 2 || !read_tensor(addon, values[1], other)) return false;
      napi_valuetype alpha = napi_undefined;
      if (count > 2) check(napi_typeof(addon.env, values[2], &alpha), "cannot read an argument");
      if (alpha != napi_undefined) return false;
      result = op.call(*self, *other, 1);
    } else if constexpr (std::is_same_v<Signature, Scalar>) {
      if (count != 2) return false;
      result = op.call(*self, to_scalar(addon.env, values[1]));
    } else {
      constexpr uint32_t kRank = 8;
      uint32_t rank;
      if (count != 2 || napi_get_array_length(addon.env, values[1], &rank) != napi_ok || rank > kRank) return false;
      int64_t sizes[kRank];
      for (uint32_t i = 0; i < rank; ++i) {
        napi_value element;
        double size;
        if (napi_get_element(addon.env, values[1], i, &element) != napi_ok || napi_get_value_double(addon.env, element, &size) != napi_ok) return false;
        sizes[i] = to_integer(size);
      }
      result = op.call(*self, c10::fromIntArrayRefSlow({sizes, rank}));
    }
    return true;
  }
};

/// The fast path that an operator's schema has, if any.
std::unique_ptr<FastPath> fast_path(const c10::OperatorHandle& handle) {
  const auto& schema = handle.schema();
  const auto& returns = schema.returns();
  if (returns.size() != 1 || returns[0].type()->kind() != c10::TypeKind::TensorType) return nullptr;
  if (returns[0].alias_info() && returns[0].alias_info()->isWrite()) return nullptr;
  std::string kinds;
  for (const auto& argument : schema.arguments()) {
    const auto& type = *argument.real_type();
    kinds += type.kind() == c10::TypeKind::TensorType   ? 'T'
             : type.kind() == c10::TypeKind::NumberType ? 'S'
             : type.str() == "SymInt[]"                 ? 'I'
                                                        : '?';
  }
  if (kinds == "T") return std::make_unique<Typed<Unary>>(handle);
  if (kinds == "TT") return std::make_unique<Typed<Binary>>(handle);
  if (kinds == "TTS" && (schema.name() == "aten::add" || schema.name() == "aten::sub")) return std::make_unique<Typed<Scaled>>(handle);
  if (kinds == "TS") return std::make_unique<Typed<Scalar>>(handle);
  if (kinds == "TI") return std::make_unique<Typed<Shaped>>(handle);
  return nullptr;
}

void push(Operator& op, size_t i, napi_value value) {
  const auto& argument = op.arguments[i];
  if (value) {
    // The kinds that can be told apart without asking for the type first are tried first: this is the hot path.
    if (argument.kind == Kind::Tensor) {
      double handle;
      if (napi_get_value_double(op.addon->env, value, &handle) == napi_ok) {
        op.stack.emplace_back(op.addon->tensors.get(handle));
        return;
      }
    }
    napi_valuetype type;
    check(napi_typeof(op.addon->env, value, &type), "cannot read an argument");
    if (type != napi_undefined && (type != napi_null || !argument.optional)) {
      op.stack.push_back(to_ivalue(*op.addon, argument.kind, value));
      return;
    }
    if (type == napi_null) {
      op.stack.emplace_back();
      return;
    }
  }
  if (argument.fallback) {
    op.stack.push_back(*argument.fallback);
  } else if (argument.optional) {
    op.stack.emplace_back();
  } else {
    throw Misuse(argument.kind == Kind::Tensor ? "expected a tensor" : "missing");
  }
}

napi_value call_operator(napi_env env, napi_callback_info info) {
  napi_value values[kMostArguments];
  size_t count = kMostArguments;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, values, nullptr, &data);
  auto& op = *static_cast<Operator*>(data);
  try {
    if (!op.handle) throw Misuse("this libtorch has no such operator");
    at::Tensor fast;
    if (op.fast && op.fast->call(*op.addon, values, count, fast)) {
      napi_value result;
      check(napi_create_double(env, op.addon->tensors.put(std::move(fast)), &result), "cannot make a number");
      return result;
    }
    const auto wanted = op.arguments.size();
    if (count > wanted) throw Misuse("takes " + std::to_string(wanted) + " arguments, got " + std::to_string(count));
    op.stack.clear();
    for (size_t i = 0; i < wanted; ++i) {
      try {
        push(op, i, i < count ? values[i] : nullptr);
      } catch (const Misuse& error) {
        throw Misuse("argument `" + op.arguments[i].name + "`: " + error.what());
      }
    }
    op.handle->callBoxed(&op.stack);
    size_t fresh = 0;
    for (const bool r : op.returned) fresh += r;
    const auto result = results(op, fresh);
    op.stack.clear();
    return result;
  } catch (...) {
    op.stack.clear();
    rethrow(*op.addon, op.name.c_str());
    return nullptr;
  }
}

/// bind(name, overload): the operator as a function. An operator that this libtorch lacks throws when it is called.
napi_value bind(const Call& call) {
  auto op = std::make_shared<Operator>();
  const auto name = call.string(0);
  const auto overload = call.string(1);
  op->addon = &call.addon;
  op->name = overload.empty() ? name : name + "." + overload;
  op->handle = find(name, overload);
  if (op->handle) {
    const auto& schema = op->handle->schema();
    for (const auto& argument : schema.arguments()) {
      const auto& type = argument.real_type();
      op->arguments.push_back({kind_of(type), type->kind() == c10::TypeKind::OptionalType, argument.default_value(), argument.name()});
    }
    if (op->arguments.size() > kMostArguments) throw Misuse(op->name + " has too many arguments");
    for (const auto& result : schema.returns()) op->returned.push_back(!(result.alias_info() && result.alias_info()->isWrite()));
    op->fast = fast_path(*op->handle);
    op->stack.reserve(std::max(op->arguments.size(), op->returned.size()));
  }
  napi_value function;
  check(napi_create_function(call.env, op->name.data(), op->name.size(), call_operator, op.get(), &function), "cannot make a function");
  call.addon.operators.push_back(std::move(op));
  return function;
}

/// schema(name, overload): the operator's schema as text, or null.
napi_value schema(const Call& call) {
  const auto handle = find(call.string(0), call.string(1));
  if (!handle) return call.null();
  std::ostringstream text;
  text << handle->schema();
  return call.value(text.str());
}

}  // namespace

const std::vector<Export> dispatch_exports = {{"bind", bind}, {"schema", schema}};

}  // namespace tinyllava

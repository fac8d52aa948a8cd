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

struct Operator {
  Addon* addon;
  std::string name;
  std::optional<c10::OperatorHandle> handle;
  std::vector<Argument> arguments;
  std::vector<bool> returned;  // false where the result is an argument that was written in place
  c10::Stack stack;
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
      op->arguments.push_back({kind_of(argument.type()), argument.type()->kind() == c10::TypeKind::OptionalType, argument.default_value(), argument.name()});
    }
    if (op->arguments.size() > kMostArguments) throw Misuse(op->name + " has too many arguments");
    for (const auto& result : schema.returns()) op->returned.push_back(!(result.alias_info() && result.alias_info()->isWrite()));
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

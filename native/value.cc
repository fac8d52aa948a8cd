#include "value.h"

#include <ATen/core/jit_type.h>

#include <cmath>

namespace tinyllava {

int64_t to_integer(double number) {
  if (number != std::floor(number) || std::abs(number) > 9007199254740992.0) throw Misuse("expected an integer, got " + std::to_string(number));
  return static_cast<int64_t>(number);
}

at::ScalarType to_dtype(int64_t code) {
  if (code < 0 || code >= static_cast<int64_t>(at::ScalarType::Undefined)) throw Misuse("no dtype has the number " + std::to_string(code));
  return static_cast<at::ScalarType>(code);
}

namespace {

int64_t below(int64_t code, int64_t options, const char* what) {
  if (code < 0 || code >= options) throw Misuse(std::string("no ") + what + " has the number " + std::to_string(code));
  return code;
}

double to_number(napi_env env, napi_value value) {
  double result;
  check(napi_get_value_double(env, value, &result), "expected a number");
  return result;
}

bool to_boolean(napi_env env, napi_value value) {
  bool result;
  check(napi_get_value_bool(env, value, &result), "expected true or false");
  return result;
}

at::Tensor& to_tensor(Addon& addon, napi_value value) {
  double handle;
  check(napi_get_value_double(addon.env, value, &handle), "expected a tensor");
  return addon.tensors.get(handle);
}

bool is_absent(napi_env env, napi_value value) {
  napi_valuetype type;
  check(napi_typeof(env, value, &type), "cannot read an argument");
  return type == napi_undefined || type == napi_null;
}

template <typename Visit>
void each_element(napi_env env, napi_value value, const char* wanted, Visit visit) {
  bool is_array = false;
  check(napi_is_array(env, value, &is_array), wanted);
  if (!is_array) throw Misuse(wanted);
  uint32_t length;
  check(napi_get_array_length(env, value, &length), wanted);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(napi_get_element(env, value, i, &element), wanted);
    visit(element);
  }
}

}  // namespace

std::string to_string(napi_env env, napi_value value) {
  size_t length = 0;
  check(value ? napi_get_value_string_utf8(env, value, nullptr, 0, &length) : napi_string_expected, "expected a string");
  std::string text(length, '\0');
  check(napi_get_value_string_utf8(env, value, text.data(), length + 1, &length), "expected a string");
  return text;
}

std::vector<int64_t> to_integers(napi_env env, napi_value value) {
  std::vector<int64_t> result;
  if (!value) throw Misuse("expected an array of integers");
  each_element(env, value, "expected an array of integers", [&](napi_value e) { result.push_back(to_integer(to_number(env, e))); });
  return result;
}

std::vector<at::Tensor> to_tensors(Addon& addon, napi_value value) {
  std::vector<at::Tensor> result;
  if (!value) throw Misuse("expected an array of tensors");
  each_element(addon.env, value, "expected an array of tensors", [&](napi_value e) { result.push_back(to_tensor(addon, e)); });
  return result;
}

c10::Scalar to_scalar(napi_env env, napi_value value) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok) {
    // A whole number is an integer, so that integer tensors keep their dtype; -0 would lose its sign.
    if (number == std::floor(number) && std::abs(number) <= 9007199254740992.0 && !(number == 0 && std::signbit(number)))
      return static_cast<int64_t>(number);
    return number;
  }
  bool flag;
  if (napi_get_value_bool(env, value, &flag) == napi_ok) return flag;
  int64_t big;
  bool lossless;
  if (napi_get_value_bigint_int64(env, value, &big, &lossless) == napi_ok && lossless) return big;
  throw Misuse("expected a number");
}

Kind kind_of(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::OptionalType:
      return kind_of(type->expectRef<c10::OptionalType>().getElementType());
    case c10::TypeKind::TensorType:
      return Kind::Tensor;
    case c10::TypeKind::NumberType:
      return Kind::Scalar;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return Kind::Int;
    case c10::TypeKind::ScalarTypeType:
      return Kind::Dtype;
    case c10::TypeKind::LayoutType:
      return Kind::Layout;
    case c10::TypeKind::MemoryFormatType:
      return Kind::Format;
    case c10::TypeKind::FloatType:
      return Kind::Float;
    case c10::TypeKind::BoolType:
      return Kind::Bool;
    case c10::TypeKind::StringType:
      return Kind::String;
    case c10::TypeKind::DeviceObjType:
      return Kind::Device;
    case c10::TypeKind::GeneratorType:
      return Kind::Generator;
    case c10::TypeKind::ListType: {
      const auto element = type->expectRef<c10::ListType>().getElementType();
      if (element->kind() == c10::TypeKind::OptionalType) return Kind::OptionalTensors;
      switch (kind_of(element)) {
        case Kind::Tensor:
          return Kind::Tensors;
        case Kind::Int:
          return Kind::Ints;
        case Kind::Float:
          return Kind::Floats;
        case Kind::Bool:
          return Kind::Bools;
        default:
          break;
      }
      break;
    }
    default:
      break;
  }
  throw Misuse("no conversion for the type " + type->str());
}

c10::IValue to_ivalue(Addon& addon, Kind kind, napi_value value) {
  const auto env = addon.env;
  switch (kind) {
    case Kind::Tensor:
      return to_tensor(addon, value);
    case Kind::Tensors:
      return to_tensors(addon, value);
    case Kind::OptionalTensors: {
      c10::List<std::optional<at::Tensor>> list;
      each_element(env, value, "expected an array of tensors", [&](napi_value e) {
        list.push_back(is_absent(env, e) ? std::nullopt : std::optional<at::Tensor>(to_tensor(addon, e)));
      });
      return list;
    }
    case Kind::Scalar:
      return to_scalar(env, value);
    case Kind::Int:
      return to_integer(to_number(env, value));
    case Kind::Ints: {
      double single;  // `int[1]` takes a plain number, as in Python
      if (napi_get_value_double(env, value, &single) == napi_ok) return std::vector<int64_t>{to_integer(single)};
      return to_integers(env, value);
    }
    case Kind::Float:
      return to_number(env, value);
    case Kind::Floats: {
      std::vector<double> list;
      each_element(env, value, "expected an array of numbers", [&](napi_value e) { list.push_back(to_number(env, e)); });
      return list;
    }
    case Kind::Bool:
      return to_boolean(env, value);
    case Kind::Bools: {
      c10::List<bool> list;
      each_element(env, value, "expected an array of booleans", [&](napi_value e) { list.push_back(to_boolean(env, e)); });
      return list;
    }
    case Kind::String:
      return to_string(env, value);
    case Kind::Dtype:
      return static_cast<int64_t>(to_dtype(to_integer(to_number(env, value))));
    case Kind::Layout:
      return below(to_integer(to_number(env, value)), static_cast<int64_t>(at::Layout::NumOptions), "layout");
    case Kind::Format:
      return below(to_integer(to_number(env, value)), static_cast<int64_t>(at::MemoryFormat::NumOptions), "memory format");
    case Kind::Device:
      return c10::Device(to_string(env, value));
    case Kind::Generator:
      return addon.generators.get(to_number(env, value));
  }
  throw Misuse("no conversion");
}

napi_value from_ivalue(Addon& addon, c10::IValue value) {
  const auto env = addon.env;
  napi_value result;
  if (value.isTensor()) {
    auto tensor = std::move(value).toTensor();
    if (!tensor.defined()) {
      check(napi_get_null(env, &result), "no null");
    } else {
      check(napi_create_double(env, addon.tensors.put(std::move(tensor)), &result), "cannot make a number");
    }
  } else if (value.isTensorList()) {
    const auto list = std::move(value).toTensorVector();
    check(napi_create_array_with_length(env, list.size(), &result), "cannot make an array");
    for (size_t i = 0; i < list.size(); ++i) check(napi_set_element(env, result, i, from_ivalue(addon, list[i])), "cannot fill an array");
  } else if (value.isBool()) {
    check(napi_get_boolean(env, value.toBool(), &result), "cannot make a boolean");
  } else if (value.isInt()) {
    check(napi_create_int64(env, value.toInt(), &result), "cannot make a number");
  } else if (value.isDouble()) {
    check(napi_create_double(env, value.toDouble(), &result), "cannot make a number");
  } else if (value.isNone()) {
    check(napi_get_null(env, &result), "no null");
  } else {
    throw Misuse("no conversion back from " + value.tagKind());
  }
  return result;
}

}  // namespace tinyllava

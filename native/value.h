// JavaScript values to libtorch's and back.
#pragma once

#include "addon.h"

#include <ATen/core/ivalue.h>

namespace tinyllava {

int64_t to_integer(double number);
std::string to_string(napi_env env, napi_value value);
std::vector<int64_t> to_integers(napi_env env, napi_value value);
std::vector<at::Tensor> to_tensors(Addon& addon, napi_value value);
c10::Scalar to_scalar(napi_env env, napi_value value);

/// libtorch trusts these numbers and reads past its tables for one that it does not know.
at::ScalarType to_dtype(int64_t code);

/// How an operator's argument is converted; worked out once from its schema.
enum class Kind : uint8_t { Tensor, Tensors, OptionalTensors, Scalar, Int, Ints, Float, Floats, Bool, Bools, String, Dtype, Layout, Format, Device, Generator };

/// The kind of a schema's type, through `Optional`. Throws Misuse for a type that no allowed operator has.
Kind kind_of(const c10::TypePtr& type);

c10::IValue to_ivalue(Addon& addon, Kind kind, napi_value value);
napi_value from_ivalue(Addon& addon, c10::IValue value);

}  // namespace tinyllava

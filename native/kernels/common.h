#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <string>

namespace tinyllava {

// Whether the kernels here can run: everything else takes a composition of ATen operators with the same meaning.
inline bool fits_kernel(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

template <class... Tensors>
void check_devices(const char* name, const at::Tensor& first, const Tensors&... others) {
  const auto check = [&](const at::Tensor& other) {
    TORCH_CHECK(!other.defined() || other.device() == first.device(), name, ": tensors on ", first.device(), " and ", other.device());
  };
  (check(others), ...);
}

template <class... Tensors>
bool needs_grad(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (tensors.requires_grad() || ...);
}

inline std::string sizes(const at::Tensor& x) {
  std::string out = "[";
  for (const int64_t size : x.sizes()) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + "]";
}

// Called in backward, which runs with grad mode on when a graph of the gradients was asked for.
inline void no_second_derivative(const char* name) {
  TORCH_CHECK(!at::GradMode::is_enabled(), name, " has no second derivative: call backward without createGraph");
}

// Iterations that one thread should take at least, when each works on `elements` numbers.
inline int64_t grain(int64_t elements, int64_t worthwhile = 16384) { return std::max<int64_t>(1, worthwhile / std::max<int64_t>(1, elements)); }

// Calls f with a value of the C++ type behind a dtype that fits_kernel allows.
template <class F>
void with_type(at::ScalarType dtype, F f) {
  if (dtype == at::kFloat) {
    f(float());
  } else {
    f(at::BFloat16());
  }
}

// x [..., K] . weight [N, K]^T + bias [N] by whoever is fastest at it, without gradients; strides are free, and the bias may be undefined.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

// What an RMS norm or a sigmoid unit gave is computed again in less time than it takes to keep: `again` does it from what their nodes keep in any case.
struct Again {
  torch::autograd::variable_list inputs;
  at::Tensor (*again)(const torch::autograd::variable_list& inputs) = nullptr;
};

Again norm_again(const at::Tensor& out);
Again unit_again(const at::Tensor& out);

// The inputs of the node that made `out`, if it is one of this function and was not gone back through, which frees them.
template <class Function>
torch::autograd::variable_list inputs_of(const at::Tensor& out) {
  auto* node = dynamic_cast<torch::autograd::CppNode<Function>*>(out.grad_fn().get());
  if (!node) return {};
  try {
    return node->ctx_.get_saved_variables();
  } catch (const c10::Error&) {
    return {};
  }
}

}  // namespace tinyllava

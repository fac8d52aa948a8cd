// What autograd needs beside operators: grad mode, gradients, backward.
#include "addon.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

namespace tinyllava {

namespace {

napi_value set_grad_enabled(const Call& call) {
  at::GradMode::set_enabled(call.boolean(0));
  return call.undefined();
}

napi_value grad_enabled(const Call& call) { return call.value(at::GradMode::is_enabled()); }
napi_value requires_grad(const Call& call) { return call.value(call.tensor(0).requires_grad()); }
napi_value is_leaf(const Call& call) { return call.value(call.tensor(0).is_leaf()); }

napi_value set_requires_grad(const Call& call) {
  call.tensor(0).requires_grad_(call.boolean(1));
  return call.undefined();
}

napi_value grad(const Call& call) { return call.handle(call.tensor(0).grad()); }

napi_value set_grad(const Call& call) {
  call.tensor(0).mutable_grad() = call.absent(1) ? at::Tensor() : call.tensor(1);
  return call.undefined();
}

/// backward(tensor, gradient?, retain graph?): adds to `.grad` of every leaf below.
napi_value backward(const Call& call) {
  std::vector<at::Tensor> gradients;
  if (!call.absent(1)) gradients.push_back(call.tensor(1));
  torch::autograd::backward({call.tensor(0)}, gradients, !call.absent(2) && call.boolean(2));
  return call.undefined();
}

/// gradients(outputs, inputs, output gradients?): the inputs' gradients; null for an input that no output depends on.
napi_value gradients(const Call& call) {
  std::vector<at::Tensor> outer;
  if (!call.absent(2)) outer = call.tensor_list(2);
  return call.handles(torch::autograd::grad(call.tensor_list(0), call.tensor_list(1), outer, std::nullopt, false, /*allow_unused=*/true));
}

}  // namespace

const std::vector<Export> autograd_exports = {{"setGradEnabled", set_grad_enabled},   {"gradEnabled", grad_enabled},
                                              {"requiresGrad", requires_grad},        {"setRequiresGrad", set_requires_grad},
                                              {"isLeaf", is_leaf},                    {"grad", grad},
                                              {"setGrad", set_grad},                  {"backward", backward},
                                              {"gradients", gradients}};

}  // namespace tinyllava

// SwiGLU (Shazeer 2020, arXiv:2002.05202): silu(gate) * up, in float32 whatever the dtype; only the inputs are kept for the gradients.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

ALWAYS_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

template <class T>
struct SwigluForward {
  static ALWAYS_INLINE void run(const T* gate, const T* up, T* out, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(out + i, load(gate + i) * sigmoid(load(gate + i)) * load(up + i));
    if (i == end) return;
    const Floats g = load_some(gate + i, end - i);
    store_some(out + i, g * sigmoid(g) * load_some(up + i, end - i), end - i);
  }
};

template <class T>
struct SwigluBackward {
  static ALWAYS_INLINE void run(const T* grad, const T* gate, const T* up, T* dgate, T* dup, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Floats d = take(grad + i, count), g = take(gate + i, count), u = take(up + i, count);
      const Floats s = sigmoid(g);
      put(dgate + i, d * u * s * (1.0f + g * (1.0f - s)), count);
      put(dup + i, d * g * s, count);
    }
  }
};

constexpr int64_t kWorthwhile = 16384;

at::Tensor forward(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  with_type(gate.scalar_type(), [&]<class T>(T) {
    const T *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, gate.numel(), kWorthwhile, [&](int64_t begin, int64_t end) { dispatch<SwigluForward<T>>(g, u, to, begin, end); });
  });
  return out;
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    return tinyllava::forward(gate, up);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("swiglu");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor grad = grads[0].contiguous(), &gate = saved[0], &up = saved[1];
    at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    with_type(gate.scalar_type(), [&]<class T>(T) {
      const T *d = grad.const_data_ptr<T>(), *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
      T *to_gate = dgate.mutable_data_ptr<T>(), *to_up = dup.mutable_data_ptr<T>();
      at::parallel_for(0, gate.numel(), kWorthwhile,
                       [&](int64_t begin, int64_t end) { dispatch<SwigluBackward<T>>(d, g, u, to_gate, to_up, begin, end); });
    });
    return {dgate, dup};
  }
};

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  TORCH_CHECK(gate.sizes() == up.sizes(), "swiglu: gate is ", sizes(gate), " but up ", sizes(up));
  check_devices("swiglu", gate, up);
  if (!fits_kernel(gate) || up.dtype() != gate.dtype()) return at::silu(gate) * up;
  const at::Tensor g = gate.contiguous(), u = up.contiguous();
  return needs_grad(gate, up) ? Swiglu::apply(g, u) : forward(g, u);
}

}  // namespace

Again swiglu_again(const at::Tensor& out) {
  return {inputs_of<Swiglu>(out), [](const torch::autograd::variable_list& inputs) { return forward(inputs[0], inputs[1]); }};
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("swiglu(Tensor gate, Tensor up) -> Tensor", swiglu); }

}  // namespace tinyllava

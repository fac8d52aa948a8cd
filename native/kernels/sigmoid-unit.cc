// Units of the form x · sigmoid(p(x)) · up, in float32 whatever the dtype; only the inputs are kept for the gradients. SiLU, and with `up` SwiGLU
// (Shazeer 2020, arXiv:2002.05202); CLIP's quick GELU; GELU by tanh (arXiv:1606.08415), for (1 + tanh(z)) / 2 = sigmoid(2z).
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>
#include <string_view>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

// p(x) = linear · x + cubic · x³
struct Form {
  std::string_view name;
  float linear, cubic;
};
constexpr std::array<Form, 3> kForms = {{{"silu", 1.0f, 0.0f}, {"quick_gelu", 1.702f, 0.0f}, {"gelu_tanh", 1.5957691216f, 0.0713548163f}}};

ALWAYS_INLINE Floats sigmoid_of(Floats x, const Form& form) {
  return 1.0f / (1.0f + exponential(-x * (form.linear + form.cubic * (x * x))));
}

template <class T, bool Gated>
struct UnitForward {
  static ALWAYS_INLINE void run(const T* x, const T* up, T* out, int64_t begin, int64_t end, const Form* form) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Floats value = take(x + i, count), unit = value * sigmoid_of(value, *form);
      put(out + i, Gated ? unit * take(up + i, count) : unit, count);
    }
  }
};

template <class T, bool Gated>
struct UnitBackward {
  static ALWAYS_INLINE void run(const T* grad, const T* x, const T* up, T* dx, T* dup, int64_t begin, int64_t end, const Form* form) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Floats d = take(grad + i, count), value = take(x + i, count), s = sigmoid_of(value, *form);
      const Floats slope = s * (1.0f + value * (form->linear + 3.0f * form->cubic * (value * value)) * (1.0f - s));
      put(dx + i, Gated ? d * take(up + i, count) * slope : d * slope, count);
      if constexpr (Gated) put(dup + i, d * value * s, count);
    }
  }
};

constexpr int64_t kWorthwhile = 16384;

template <class T>
const T* data_of(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

at::Tensor forward(const at::Tensor& x, const at::Tensor& up, const Form& form) {
  at::Tensor out = at::empty_like(x);
  with_type(x.scalar_type(), [&]<class T>(T) {
    const T *from = data_of<T>(x), *gated = data_of<T>(up);
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, x.numel(), kWorthwhile, [&](int64_t begin, int64_t end) {
      if (gated) dispatch<UnitForward<T, true>>(from, gated, to, begin, end, &form);
      else dispatch<UnitForward<T, false>>(from, gated, to, begin, end, &form);
    });
  });
  return out;
}

struct SigmoidUnit : torch::autograd::Function<SigmoidUnit> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const std::optional<at::Tensor>& gated, int64_t form) {
    const at::Tensor up = gated.value_or(at::Tensor());
    ctx->save_for_backward({x, up});
    ctx->saved_data["form"] = form;
    return tinyllava::forward(x, up, kForms[form]);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("sigmoid_unit");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor grad = grads[0].contiguous(), &x = saved[0], &up = saved[1];
    const Form& form = kForms[ctx->saved_data["form"].toInt()];
    at::Tensor dx = at::empty_like(x), dup = up.defined() ? at::empty_like(up) : at::Tensor();
    with_type(x.scalar_type(), [&]<class T>(T) {
      const T *d = data_of<T>(grad), *from = data_of<T>(x), *gated = data_of<T>(up);
      T *to = dx.mutable_data_ptr<T>(), *to_up = gated ? dup.mutable_data_ptr<T>() : nullptr;
      at::parallel_for(0, x.numel(), kWorthwhile, [&](int64_t begin, int64_t end) {
        if (gated) dispatch<UnitBackward<T, true>>(d, from, gated, to, to_up, begin, end, &form);
        else dispatch<UnitBackward<T, false>>(d, from, gated, to, to_up, begin, end, &form);
      });
    });
    return {dx, dup, at::Tensor()};
  }
};

at::Tensor composed(const at::Tensor& x, const at::Tensor& up, std::string_view form) {
  const at::Tensor unit = form == "silu" ? at::silu(x) : form == "gelu_tanh" ? at::gelu(x, "tanh") : x * at::sigmoid(1.702 * x);
  return up.defined() ? unit * up : unit;
}

at::Tensor sigmoid_unit(const at::Tensor& x, const std::optional<at::Tensor>& gated, std::string_view name) {
  const auto form = std::find_if(kForms.begin(), kForms.end(), [&](const Form& known) { return known.name == name; });
  TORCH_CHECK(form != kForms.end(), "sigmoid_unit: no form ", name, "; there are silu, quick_gelu and gelu_tanh");
  const at::Tensor up = gated.value_or(at::Tensor());
  TORCH_CHECK(!up.defined() || x.sizes() == up.sizes(), "sigmoid_unit: x is ", sizes(x), " but up ", up.defined() ? sizes(up) : "");
  check_devices("sigmoid_unit", x, up);
  if (!fits_kernel(x) || (up.defined() && up.dtype() != x.dtype())) return composed(x, up, name);
  const at::Tensor from = x.contiguous(), other = up.defined() ? up.contiguous() : up;
  const bool learns = needs_grad(x) || (up.defined() && needs_grad(up));
  return learns ? SigmoidUnit::apply(from, up.defined() ? std::optional(other) : std::nullopt, form - kForms.begin()) : forward(from, other, *form);
}

template <size_t Index>
at::Tensor again(const torch::autograd::variable_list& inputs) {
  return forward(inputs[0], inputs[1], kForms[Index]);
}

}  // namespace

Again unit_again(const at::Tensor& out) {
  constexpr std::array<decltype(Again::again), kForms.size()> forms = {again<0>, again<1>, again<2>};
  const torch::autograd::variable_list inputs = inputs_of<SigmoidUnit>(out);
  if (inputs.empty()) return {};
  return {inputs, forms[static_cast<torch::autograd::CppNode<SigmoidUnit>*>(out.grad_fn().get())->ctx_.saved_data["form"].toInt()]};
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("sigmoid_unit(Tensor x, Tensor? up, str form) -> Tensor", sigmoid_unit); }

}  // namespace tinyllava

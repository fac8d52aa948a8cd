// Root-mean-square norm as Llama's: normalised in float32, cast to the input's dtype, then scaled by the weight.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

// Rounds to T and back, which is where the reference casts.
template <class T>
ALWAYS_INLINE Floats rounded(Floats value) {
  if constexpr (std::is_same_v<T, float>) return value;
  T stored[kLanes];
  store(stored, value);
  return load(stored);
}

template <class T>
ALWAYS_INLINE void scale_row(const T* row, const T* weight, T* to, float scale, int64_t C) {
  const int64_t whole = C / kLanes * kLanes, rest = C - whole;
  for (int64_t c = 0; c < whole; c += kLanes) store(to + c, rounded<T>(load(row + c) * scale) * load(weight + c));
  if (rest) store_some(to + whole, rounded<T>(load_some(row + whole, rest) * scale) * load_some(weight + whole, rest), rest);
}

template <class T>
struct RmsNormForward {
  static ALWAYS_INLINE void run(const T* x, const T* weight, T* out, float* rstd, int64_t begin, int64_t end, int64_t C, float eps) {
    const int64_t whole = C / kLanes * kLanes;
    for (int64_t n = begin; n < end; ++n) {
      const T* row = x + n * C;
      Floats squares = {};
      for (int64_t c = 0; c < whole; c += kLanes) squares += load(row + c) * load(row + c);
      if (whole < C) squares += load_some(row + whole, C - whole) * load_some(row + whole, C - whole);
      const float scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(C) + eps);
      rstd[n] = scale;
      scale_row(row, weight, out + n * C, scale, C);
    }
  }
};

template <class T>
struct RmsNormAgain {
  static ALWAYS_INLINE void run(const T* x, const T* weight, T* out, const float* rstd, int64_t begin, int64_t end, int64_t C) {
    for (int64_t n = begin; n < end; ++n) scale_row(x + n * C, weight, out + n * C, rstd[n], C);
  }
};

// dx = rstd * (g * w - xhat * mean(g * w * xhat)); dw += g * xhat. Either pointer may be null.
template <class T>
struct RmsNormBackward {
  static ALWAYS_INLINE void run(const T* grad, const T* x, const T* weight, const float* rstd, T* dx, float* dw, int64_t begin, int64_t end,
                                int64_t C) {
    const int64_t whole = C / kLanes * kLanes, rest = C - whole;
    for (int64_t n = begin; n < end; ++n) {
      const T *g = grad + n * C, *row = x + n * C;
      const float scale = rstd[n];
      if (dw) {
        for (int64_t c = 0; c < whole; c += kLanes) store(dw + c, load(dw + c) + load(g + c) * rounded<T>(load(row + c) * scale));
        if (rest) {
          const Floats part = load_some(g + whole, rest) * rounded<T>(load_some(row + whole, rest) * scale);
          store_some(dw + whole, load_some(dw + whole, rest) + part, rest);
        }
      }
      if (!dx) continue;
      Floats products = {};
      for (int64_t c = 0; c < whole; c += kLanes) products += load(g + c) * load(weight + c) * load(row + c);
      if (rest) products += load_some(g + whole, rest) * load_some(weight + whole, rest) * load_some(row + whole, rest);
      const float pull = sum(products) * scale * scale * scale / static_cast<float>(C);
      T* to = dx + n * C;
      for (int64_t c = 0; c < whole; c += kLanes) store(to + c, load(g + c) * load(weight + c) * scale - load(row + c) * pull);
      if (rest) {
        const Floats through = load_some(g + whole, rest) * load_some(weight + whole, rest) * scale;
        store_some(to + whole, through - load_some(row + whole, rest) * pull, rest);
      }
    }
  }
};

std::pair<at::Tensor, at::Tensor> forward(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t C = x.size(-1), N = x.numel() / C;
  at::Tensor out = at::empty_like(x), rstd = at::empty({N}, x.options().dtype(at::kFloat));
  with_type(x.scalar_type(), [&]<class T>(T) {
    const T *from = x.const_data_ptr<T>(), *scale = weight.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    float* saved = rstd.mutable_data_ptr<float>();
    at::parallel_for(0, N, grain(C), [&](int64_t begin, int64_t end) {
      dispatch<RmsNormForward<T>>(from, scale, to, saved, begin, end, C, static_cast<float>(eps));
    });
  });
  return {out, rstd};
}

at::Tensor again(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd) {
  const int64_t C = x.size(-1), N = x.numel() / C;
  at::Tensor out = at::empty_like(x);
  with_type(x.scalar_type(), [&]<class T>(T) {
    const T *from = x.const_data_ptr<T>(), *scale = weight.const_data_ptr<T>();
    const float* saved = rstd.const_data_ptr<float>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, N, grain(C), [&](int64_t begin, int64_t end) { dispatch<RmsNormAgain<T>>(from, scale, to, saved, begin, end, C); });
  });
  return out;
}

// The rows are cut into the same blocks whatever the number of threads, so that the weight's gradient is too.
constexpr int64_t kMostBlocks = 32;

std::pair<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                                           bool want_x, bool want_weight) {
  const int64_t C = x.size(-1), N = x.numel() / C;
  const int64_t rows = std::max<int64_t>(16, (N + kMostBlocks - 1) / kMostBlocks), blocks = (N + rows - 1) / rows;
  at::Tensor dx = want_x ? at::empty_like(x) : at::Tensor();
  at::Tensor partial = want_weight ? at::zeros({blocks, C}, x.options().dtype(at::kFloat)) : at::Tensor();
  with_type(x.scalar_type(), [&]<class T>(T) {
    const T *g = grad.const_data_ptr<T>(), *from = x.const_data_ptr<T>(), *scale = weight.const_data_ptr<T>();
    const float* saved = rstd.const_data_ptr<float>();
    T* to = want_x ? dx.mutable_data_ptr<T>() : nullptr;
    float* dw = want_weight ? partial.mutable_data_ptr<float>() : nullptr;
    at::parallel_for(0, blocks, grain(rows * C), [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        dispatch<RmsNormBackward<T>>(g, from, scale, saved, to, dw ? dw + block * C : nullptr, block * rows, std::min(N, (block + 1) * rows), C);
      }
    });
  });
  return {dx, want_weight ? partial.sum(0).to(weight.scalar_type()) : at::Tensor()};
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    auto [out, rstd] = tinyllava::forward(x, weight, eps);
    ctx->save_for_backward({x, weight, rstd});
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("rms_norm");
    const auto saved = ctx->get_saved_variables();
    auto [dx, dw] =
        tinyllava::backward(grads[0].contiguous(), saved[0], saved[1], saved[2], ctx->needs_input_grad(0), ctx->needs_input_grad(1));
    return {dx, dw, at::Tensor()};
  }
};

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  TORCH_CHECK(weight.dim() == 1, "rms_norm: expected weight [C], got ", sizes(weight));
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(0), "rms_norm: expected x [..., C=", weight.size(0), "], got ", sizes(x));
  check_devices("rms_norm", x, weight);
  if (!fits_kernel(x) || weight.dtype() != x.dtype() || x.numel() == 0) {
    const at::Tensor floats = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
    return weight * (floats * at::rsqrt(floats.square().mean(-1, true) + eps)).to(x.scalar_type());
  }
  const at::Tensor rows = x.contiguous(), scale = weight.contiguous();
  return needs_grad(x, weight) ? RmsNorm::apply(rows, scale, eps) : forward(rows, scale, eps).first;
}

}  // namespace

Again norm_again(const at::Tensor& out) {
  return {inputs_of<RmsNorm>(out), [](const torch::autograd::variable_list& inputs) { return again(inputs[0], inputs[1], inputs[2]); }};
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor", rms_norm); }

}  // namespace tinyllava

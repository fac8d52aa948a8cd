// Rotary positions (Su et al. 2021, arXiv:2104.09864) in the order of Hugging Face's Llama: element i turns with element i + R / 2 of the R
// that are rotated. Dims: N tokens, H heads, D head size, R <= D rotated elements.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

template <class T, bool Back>
struct Rotate {
  static ALWAYS_INLINE void pair(const T* x, T* out, const float* cos, const float* sin, int64_t half, int64_t width, int64_t i, int64_t count) {
    const int64_t second = width == half ? i : i + half;  // where the cosines of the second half are
    const Floats a = take(x + i, count), b = take(x + i + half, count);
    const Floats c0 = take(cos + i, count), c1 = take(cos + second, count), s0 = take(sin + i, count), s1 = take(sin + second, count);
    const Floats first = Back ? a * c0 + b * s1 : a * c0 - b * s0;
    const Floats last = Back ? b * c1 - a * s0 : b * c1 + a * s1;
    put(out + i, first, count);
    put(out + i + half, last, count);
  }

  static ALWAYS_INLINE void run(const T* x, int64_t token, int64_t head, T* out, const float* cos, const float* sin, int64_t begin, int64_t end,
                                int64_t H, int64_t D, int64_t half, int64_t width) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t h = 0; h < H; ++h) {
        const T* from = x + n * token + h * head;
        T* to = out + (n * H + h) * D;
        for (int64_t i = 0; i < half; i += kLanes) pair(from, to, cos + n * width, sin + n * width, half, width, i, half - i);
        for (int64_t i = 2 * half; i < D; ++i) to[i] = from[i];
      }
    }
  }
};

template <bool Back>
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t N = x.size(0), H = x.size(1), D = x.size(2), width = cos.size(1);
  const int64_t half = width == D ? D / 2 : width;
  at::Tensor out = at::empty({N, H, D}, x.options());
  with_type(x.scalar_type(), [&]<class T>(T) {
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    const float *cosines = cos.const_data_ptr<float>(), *sines = sin.const_data_ptr<float>();
    at::parallel_for(0, N, grain(H * D), [&](int64_t begin, int64_t end) {
      dispatch<Rotate<T, Back>>(from, x.stride(0), x.stride(1), to, cosines, sines, begin, end, H, D, half, width);
    });
  });
  return out;
}

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotate<false>(x, cos, sin);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("rope");
    const auto saved = ctx->get_saved_variables();
    return {rotate<true>(grads[0].contiguous(), saved[0], saved[1]), at::Tensor(), at::Tensor()};
  }
};

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  TORCH_CHECK(x.dim() == 3, "rope: expected x [N, H, D], got ", sizes(x));
  const int64_t N = x.size(0), D = x.size(2);
  TORCH_CHECK(cos.dim() == 2 && cos.size(0) == N && (cos.size(1) == D ? D % 2 == 0 : 2 * cos.size(1) <= D), "rope: expected cos [N=", N,
              ", at most D/2=", D / 2, "] or [N=", N, ", D=", D, "], got ", sizes(cos));
  TORCH_CHECK(sin.sizes() == cos.sizes(), "rope: cos is ", sizes(cos), " but sin ", sizes(sin));
  check_devices("rope", x, cos, sin);
  const bool floats = cos.scalar_type() == at::kFloat && sin.scalar_type() == at::kFloat;
  if (!fits_kernel(x) || !floats || needs_grad(cos, sin)) {
    const int64_t half = cos.size(1) == D ? D / 2 : cos.size(1), last = cos.size(1) - half;
    const at::Tensor a = x.narrow(2, 0, half), b = x.narrow(2, half, half), rest = x.narrow(2, 2 * half, D - 2 * half);
    const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
    const at::Tensor first = a * c.narrow(2, 0, half) - b * s.narrow(2, 0, half);
    const at::Tensor second = b * c.narrow(2, last, half) + a * s.narrow(2, last, half);
    return at::cat({first.to(x.scalar_type()), second.to(x.scalar_type()), rest}, 2);
  }
  const at::Tensor rows = x.stride(2) == 1 ? x : x.contiguous(), cosines = cos.contiguous(), sines = sin.contiguous();
  return needs_grad(x) ? Rope::apply(rows, cosines, sines) : rotate<false>(rows, cosines, sines);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("rope(Tensor x, Tensor cos, Tensor sin) -> Tensor", rope); }

}  // namespace tinyllava

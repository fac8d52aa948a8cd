// A linear layer on few rows: one token of one sequence, or one of each of a few. It reads every weight once and computes little, so memory
// bandwidth is the limit. A core gets all of its bandwidth from one sequential stream: rows of the weight are read one after another
// (tiles of several rows, the way of a matrix product, measured half of it).
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "common.h"
#include "simd.h"
#include "tiles.h"

namespace tinyllava {
namespace {

struct Float32 {
  using Weight = float;
  using Input = float;
  static constexpr int64_t step = kLanes;
  template <class Kernel, class... Args>
  static void run(Args... args) {
    dispatch<Kernel>(args...);
  }
  static int64_t place(int64_t i) { return i; }
  static ALWAYS_INLINE Floats add(Floats sum, const float* x, const float* weight) { return sum + load(x) * load(weight); }
};

// Two bfloat16 in each 32-bit word become two float32 vectors, even and odd elements; the input is stored in that order.
struct BFloat16Split {
  using Weight = at::BFloat16;
  using Input = float;
  static constexpr int64_t step = 2 * kLanes;
  template <class Kernel, class... Args>
  static void run(Args... args) {
    dispatch<Kernel>(args...);
  }
  static int64_t place(int64_t i) { return i % 2 * kLanes + i / 2; }
  static ALWAYS_INLINE Floats add(Floats sum, const float* x, const at::BFloat16* weight) {
    Words words;
    std::memcpy(&words, weight, sizeof(words));
    sum += load(x) * (Floats)(words << 16);
    return sum + load(x + kLanes) * (Floats)(words & 0xffff0000u);
  }
};

#if HAS_BFLOAT16_DOT
struct BFloat16Dot {
  using Weight = at::BFloat16;
  using Input = at::BFloat16;
  static constexpr int64_t step = 2 * kLanes;
  template <class Kernel, class... Args>
  static void run(Args... args) {
    run_avx512<Kernel>(args...);
  }
  static int64_t place(int64_t i) { return i; }
  static ALWAYS_INLINE Floats add(Floats sum, const at::BFloat16* x, const at::BFloat16* weight) {
    Words words;
    std::memcpy(&words, weight, sizeof(words));
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(words), "m"(*reinterpret_cast<const char(*)[64]>(x)));
    return sum;
  }
};
#endif

// Rows begin..end of the weight [N, K] against R rows of x: out[r][n] = x[r] . weight[n] + bias[n]. The rows of x lie in steps, one row's step
// behind the other's, so that they are one stream too (more streams than two or three keep the processor from fetching the weight ahead), and
// are padded with zeros. Of the R rows the first `given` are wanted; the others are padding too.
template <class Format, int R>
struct LinearRows {
  using Weight = typename Format::Weight;
  using Input = typename Format::Input;
  static constexpr int chains = R == 1 ? 4 : R < 4 ? 2 : 1;  // independent sums, which hide the latency of the multiply-add
  static constexpr int64_t ahead = 1024;                     // bytes; with this much to compute the processor fetches too late by itself

  static ALWAYS_INLINE void run(const Input* x, int64_t given, const Weight* weights, const Weight* bias, Weight* out,
                                int64_t begin, int64_t end, int64_t N, int64_t K) {
    constexpr int64_t step = Format::step;
    for (int64_t n = begin; n < end; ++n) {
      const Weight* weight = weights + n * K;
      Floats sums[chains][R] = {};
      int64_t k = 0;
      for (; k + chains * step <= K; k += chains * step) {
        for (int c = 0; c < chains; ++c) {
          if constexpr (R >= 4) __builtin_prefetch(reinterpret_cast<const char*>(weight + k + c * step) + ahead);
          for (int r = 0; r < R; ++r) sums[c][r] = Format::add(sums[c][r], x + (k + c * step) * R + r * step, weight + k + c * step);
        }
      }
      for (; k + step <= K; k += step) {
        for (int r = 0; r < R; ++r) sums[0][r] = Format::add(sums[0][r], x + k * R + r * step, weight + k);
      }
      if (k < K) {
        Weight tail[step] = {};
        for (int64_t i = k; i < K; ++i) tail[i - k] = weight[i];
        for (int r = 0; r < R; ++r) sums[0][r] = Format::add(sums[0][r], x + k * R + r * step, tail);
      }
      for (int c = 1; c < chains; ++c) {
        for (int r = 0; r < R; ++r) sums[0][r] += sums[c][r];
      }
      const Floats totals = sums_of<R>(sums[0]) + (bias ? static_cast<float>(bias[n]) : 0.0f);
      for (int r = 0; r < R && r < given; ++r) out[r * N + n] = static_cast<Weight>(totals[r]);
    }
  }
};

template <class Format, int R>
at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  using Weight = typename Format::Weight;
  using Input = typename Format::Input;
  const int64_t given = x.size(0), N = weight.size(0), K = weight.size(1);
  constexpr int64_t step = Format::step;
  const at::Tensor copy = at::zeros({(K + step - 1) / step, R, step}, x.options().dtype(c10::CppTypeToScalarType<Input>()));  // aligned to cache lines
  Input* rows = copy.mutable_data_ptr<Input>();
  for (int64_t r = 0; r < given; ++r) {
    const Weight* row = x.const_data_ptr<Weight>() + r * K;
    for (int64_t k = 0; k < K; k += step) {
      for (int64_t i = 0; i < std::min(step, K - k); ++i) rows[k * R + r * step + Format::place(i)] = static_cast<Input>(row[k + i]);
    }
  }
  at::Tensor out = at::empty({given, N}, x.options());
  const Weight* weights = weight.const_data_ptr<Weight>();
  const Weight* biases = bias.defined() ? bias.const_data_ptr<Weight>() : nullptr;
  Weight* to = out.mutable_data_ptr<Weight>();
  // A thread is worth waking for what one core reads in about ten microseconds.
  at::parallel_for(0, N, grain(K * static_cast<int64_t>(sizeof(Weight)), 256 * 1024), [&](int64_t begin, int64_t end) {
    Format::template run<LinearRows<Format, R>>(static_cast<const Input*>(rows), given, weights, biases, to, begin, end, N, K);
  });
  return out;
}

template <class Format>
at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.size(0) == 1) return run<Format, 1>(x, weight, bias);
  if (x.size(0) == 2) return run<Format, 2>(x, weight, bias);
  if (x.size(0) <= 4) return run<Format, 4>(x, weight, bias);
  return run<Format, 8>(x, weight, bias);
}

constexpr int64_t kMostRows = 8;  // from there on a matrix product is as fast

// On AMD's processors the float32 products of ATen, which are MKL's, do not use AVX-512; those of oneDNN do, and take half of the time. They come
// through an operator of PyTorch's, x . weight^T + bias for matrices of any strides, where it was built with oneDNN.
using Product = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

const std::optional<c10::TypedOperatorHandle<Product>>& onednn() {
  static const std::optional<c10::TypedOperatorHandle<Product>> found = [] {
    std::optional<c10::TypedOperatorHandle<Product>> none;
#if defined(__x86_64__)
    if (isa() != Isa::avx512 || !__builtin_cpu_is("amd")) return none;
    const auto handle = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (handle && handle->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return std::optional(handle->typed<Product>());
#endif
    return none;
  }();
  return found;
}

at::Tensor by_onednn(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return onednn()->call(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// Below that, finding the kernel takes longer than it saves.
constexpr int64_t kWorthProducts = 1 << 22;

bool on_cpu_in(at::ScalarType dtype, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return x.device().is_cpu() && x.scalar_type() == dtype && weight.scalar_type() == dtype && (!bias.defined() || bias.scalar_type() == dtype);
}

bool fits_onednn(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return on_cpu_in(at::kFloat, x, weight, bias) && x.numel() * weight.size(0) >= kWorthProducts && onednn().has_value();
}

// With AMX, oneDNN takes one thread for some products of bfloat16, such as 904 x 1536 by 1536 x 576. Where every thread has rows enough to be worth laying
// out the weight for itself, each takes its own.
constexpr int64_t kRowsOfThread = 256;

bool fits_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t threads = at::get_num_threads();
  return has_tiles() && on_cpu_in(at::kBFloat16, x, weight, bias) && x.dim() == 2 && threads > 1 && x.size(0) >= kRowsOfThread * threads;
}

at::Tensor by_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options()), columns = weight.t();
  at::parallel_for(0, x.size(0), kRowsOfThread, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView no_graph;
    at::Tensor rows = out.slice(0, begin, end);
    if (bias.defined()) at::addmm_out(rows, bias, x.slice(0, begin, end), columns);
    else at::mm_out(rows, x.slice(0, begin, end), columns);
  });
  return out;
}

// Keeps the input for the weight's gradient alone, and not at all where it is computed again; keeps the weight for the input's alone.
struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    torch::autograd::variable_list kept = {x.requires_grad() ? weight : at::Tensor()};
    if (weight.requires_grad()) {
      Again source = norm_again(x);
      if (source.inputs.empty()) source = unit_again(x);
      if (source.inputs.empty()) source.inputs = {x};
      else ctx->saved_data["again"] = reinterpret_cast<int64_t>(source.again);
      for (const at::Tensor& input : source.inputs) kept.push_back(input);
    }
    ctx->save_for_backward(std::move(kept));
    ctx->saved_data["bias"] = bias.has_value() && bias->requires_grad();
    return product(x, weight, bias.value_or(at::Tensor()));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("linear");
    const auto kept = ctx->get_saved_variables();
    const at::Tensor grad = grads[0].reshape({-1, grads[0].size(-1)}).contiguous();
    at::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) {
      auto shape = grads[0].sizes().vec();
      shape.back() = kept[0].size(1);
      dx = product(grad, kept[0].t()).view(shape);
    }
    if (ctx->needs_input_grad(1)) {
      const torch::autograd::variable_list inputs(kept.begin() + 1, kept.end());
      const auto again = ctx->saved_data.find("again");
      const at::Tensor x = again == ctx->saved_data.end() ? inputs[0] : reinterpret_cast<decltype(Again::again)>(again->second.toInt())(inputs);
      dweight = product(grad.t(), x.reshape({-1, x.size(-1)}).t());
    }
    if (ctx->saved_data["bias"].toBool()) dbias = grad.sum(0);
    return {dx, dweight, dbias};
  }
};

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(weight.dim() == 2, "linear: expected weight [N, K], got ", sizes(weight));
  const int64_t N = weight.size(0), K = weight.size(1);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == K, "linear: expected x [..., K=", K, "], got ", sizes(x));
  const at::Tensor offset = bias.value_or(at::Tensor());
  TORCH_CHECK(!offset.defined() || (offset.dim() == 1 && offset.size(0) == N), "linear: expected bias [N=", N, "], got ", sizes(offset));
  check_devices("linear", x, weight, offset);
  const bool same = weight.dtype() == x.dtype() && (!offset.defined() || offset.dtype() == x.dtype());
  const bool few = x.numel() > 0 && N > 0 && x.numel() <= kMostRows * K;
  if (!few || !same || !fits_kernel(x) || !weight.is_contiguous() || needs_grad(x, weight) || (offset.defined() && needs_grad(offset))) {
    const bool learns = needs_grad(x, weight) || (offset.defined() && needs_grad(offset));
    return learns && same && fits_kernel(x) && x.numel() > 0 ? Linear::apply(x, weight, bias) : product(x, weight, offset);
  }
  const at::Tensor rows = x.contiguous().view({-1, K}), offsets = offset.defined() ? offset.contiguous() : offset;
  const auto shaped = [&](const at::Tensor& out) {
    auto shape = x.sizes().vec();
    shape.back() = N;
    return x.dim() == 2 ? out : out.view(shape);
  };
  if (x.scalar_type() == at::kFloat) return shaped(run<Float32>(rows, weight, offsets));
#if HAS_BFLOAT16_DOT
  if (has_bfloat16_dot()) return shaped(run<BFloat16Dot>(rows, weight, offsets));
#endif
  return shaped(run<BFloat16Split>(rows, weight, offsets));
}

}  // namespace

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (fits_onednn(x, weight, bias)) {
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return by_onednn(x.reshape({-1, x.size(-1)}), weight, bias).view(shape);
  }
  if (fits_rows(x, weight, bias)) return by_rows(x, weight, bias);
  return at::linear(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor", linear); }

}  // namespace tinyllava

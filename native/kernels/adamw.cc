// One AdamW update of one parameter in one pass over memory (Loshchilov and Hutter 2019, arXiv:1711.05101; the arithmetic is torch.optim.AdamW's).
// Either the parameter has a float32 master, which is updated and rounded into it, or it is bfloat16 alone and so are its moments: everything is
// then computed in float32 and rounded up or down with the probability that keeps its mean (stochastic rounding; Zamirai et al. 2020,
// arXiv:2010.06192), because a small step added to a large weight would be lost otherwise.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

struct Settings {
  float decay;       // learning rate * weight decay
  float step_size;   // learning rate / (1 - beta1^t)
  float root;        // sqrt(1 - beta2^t)
  float blend1, beta2, blend2, eps;  // blend = 1 - beta
  float scale;       // of the gradient
  uint32_t noise;
};

// Wellons' lowbias32, a bijective mix of 32-bit words: the noise of an element follows from its place alone, whoever computes it.
ALWAYS_INLINE Words mixed(Words x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  return x ^ (x >> 16);
}

ALWAYS_INLINE Words noise_at(int64_t i, uint32_t seed) {
  constexpr Words lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Words place = lanes + static_cast<uint32_t>(i);
  return mixed(place ^ (seed + static_cast<uint32_t>(i >> 32) * 0x9e3779b9U));
}

// Adds `noise` below 2^16 to what bfloat16 cuts off.
ALWAYS_INLINE Floats stochastic(Floats value, Words noise) { return (Floats)(((Words)value + noise) & 0xffff0000U); }

struct Moved {
  Floats weight, mean, square;
};

ALWAYS_INLINE Moved moved(Floats weight, Floats gradient, Floats mean, Floats square, const Settings& s) {
  gradient *= s.scale;
  mean += (gradient - mean) * s.blend1;
  square = square * s.beta2 + gradient * gradient * s.blend2;
  Floats roots = square;
  for (int i = 0; i < kLanes; ++i) roots[i] = std::sqrt(square[i]);
  return {weight - weight * s.decay - s.step_size * (mean / (roots / s.root + s.eps)), mean, square};
}

template <class T>
ALWAYS_INLINE Floats take(const T* from, int64_t count) {
  return count >= kLanes ? load(from) : load_some(from, count);
}
template <class T>
ALWAYS_INLINE void put(T* to, Floats value, int64_t count) {
  if (count >= kLanes) {
    store(to, value);
  } else {
    store_some(to, value, count);
  }
}

template <class P, class G>
struct WithMaster {
  static ALWAYS_INLINE void run(P* parameter, float* master, const G* gradient, float* mean, float* square, int64_t begin, int64_t end,
                                const Settings* settings) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Moved out = moved(take(master + i, count), take(gradient + i, count), take(mean + i, count), take(square + i, count), *settings);
      put(master + i, out.weight, count);
      put(mean + i, out.mean, count);
      put(square + i, out.square, count);
      put(parameter + i, out.weight, count);
    }
  }
};

template <class G>
struct Alone {
  static ALWAYS_INLINE void run(at::BFloat16* parameter, const G* gradient, at::BFloat16* mean, at::BFloat16* square, int64_t begin, int64_t end,
                                const Settings* settings) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Moved out = moved(take(parameter + i, count), take(gradient + i, count), take(mean + i, count), take(square + i, count), *settings);
      const Words first = noise_at(i, settings->noise), second = mixed(first + 0x9e3779b9U);
      put(parameter + i, stochastic(out.weight, first & 0xffff), count);
      put(mean + i, stochastic(out.mean, first >> 16), count);
      put(square + i, stochastic(out.square, second & 0xffff), count);
    }
  }
};

// The same in ATen's operators, for other devices and dtypes.
at::Tensor mixed(const at::Tensor& x) {
  constexpr int64_t low = 0xffffffff;
  at::Tensor y = x.bitwise_xor(x.bitwise_right_shift(16));
  y = y.mul(0x7feb352d).bitwise_and(low);
  y = y.bitwise_xor(y.bitwise_right_shift(15));
  y = y.mul(static_cast<int64_t>(0x846ca68b)).bitwise_and(low);
  return y.bitwise_xor(y.bitwise_right_shift(16));
}

void stochastic_into(const at::Tensor& to, const at::Tensor& value, const at::Tensor& noise) {
  to.copy_(value.contiguous().view(at::kInt).add(noise.to(at::kInt)).bitwise_and(static_cast<int64_t>(-65536)).view(at::kFloat));
}

// Words [numel] of noise for the elements of a tensor.
at::Tensor noise_for(const at::Tensor& x, uint32_t noise) {
  const at::Tensor place = at::arange(x.numel(), x.options().dtype(at::kLong)).view(x.sizes());
  const at::Tensor seed = place.bitwise_right_shift(32).mul(static_cast<int64_t>(0x9e3779b9)).add(static_cast<int64_t>(noise));
  return mixed(place.bitwise_xor(seed).bitwise_and(static_cast<int64_t>(0xffffffff)));
}

void composed(const at::Tensor& parameter, const at::Tensor& master, const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& square,
              const Settings& s) {
  const at::Tensor g = gradient.to(at::kFloat) * s.scale;
  const at::Tensor weight = master.defined() ? master : parameter.to(at::kFloat);
  const at::Tensor m = mean.to(at::kFloat).lerp(g, s.blend1);
  const at::Tensor v = square.to(at::kFloat) * s.beta2 + g * g * s.blend2;
  const at::Tensor next = weight - weight * s.decay - s.step_size * (m / (v.sqrt() / s.root + s.eps));
  if (master.defined()) {
    master.copy_(next);
    mean.copy_(m);
    square.copy_(v);
    parameter.copy_(next);
    return;
  }
  const at::Tensor first = noise_for(parameter, s.noise);
  const at::Tensor second = mixed(first.add(static_cast<int64_t>(0x9e3779b9)).bitwise_and(static_cast<int64_t>(0xffffffff)));
  stochastic_into(parameter, next, first.bitwise_and(0xffff));
  stochastic_into(mean, m, first.bitwise_right_shift(16));
  stochastic_into(square, v, second.bitwise_and(0xffff));
}

// Rounds float32 values into bfloat16 ones, up or down with the probability that keeps their mean.
void round_stochastic_(const at::Tensor& to, const at::Tensor& value, int64_t noise) {
  TORCH_CHECK(to.sizes() == value.sizes(), "round_stochastic_: the values are ", sizes(value), " but their place ", sizes(to));
  TORCH_CHECK(to.scalar_type() == at::kBFloat16 && value.scalar_type() == at::kFloat,
              "round_stochastic_: expected float32 values and a bfloat16 place, got ", value.dtype(), " and ", to.dtype());
  check_devices("round_stochastic_", to, value);
  const at::NoGradGuard without;
  stochastic_into(to, value, noise_for(value, static_cast<uint32_t>(noise)).bitwise_and(0xffff));
}

constexpr int64_t kWorthwhile = 16384;

void adamw_(const at::Tensor& parameter, const std::optional<at::Tensor>& master, const at::Tensor& gradient, const at::Tensor& mean,
            const at::Tensor& square, double learning_rate, double beta1, double beta2, double eps, double weight_decay, int64_t step, double scale,
            int64_t noise) {
  const at::Tensor main = master.value_or(at::Tensor());
  TORCH_CHECK(parameter.sizes() == gradient.sizes() && parameter.sizes() == mean.sizes() && parameter.sizes() == square.sizes() &&
                  (!main.defined() || main.sizes() == parameter.sizes()),
              "adamw_: the parameter is ", sizes(parameter), ", its gradient ", sizes(gradient), ", its moments ", sizes(mean), " and ",
              sizes(square));
  TORCH_CHECK(step >= 1, "adamw_: steps count from 1, got ", step);
  const at::ScalarType kept = main.defined() ? at::kFloat : at::kBFloat16;
  TORCH_CHECK(main.defined() ? main.scalar_type() == at::kFloat : parameter.scalar_type() == at::kBFloat16,
              "adamw_: a parameter without master is bfloat16 and a master float32");
  TORCH_CHECK(mean.scalar_type() == kept && square.scalar_type() == kept, "adamw_: expected moments of ", kept, ", got ", mean.dtype());
  check_devices("adamw_", parameter, main, gradient, mean, square);
  const at::NoGradGuard without;
  const Settings settings{static_cast<float>(learning_rate * weight_decay),
                          static_cast<float>(learning_rate / (1 - std::pow(beta1, static_cast<double>(step)))),
                          static_cast<float>(std::sqrt(1 - std::pow(beta2, static_cast<double>(step)))),
                          static_cast<float>(1 - beta1),
                          static_cast<float>(beta2),
                          static_cast<float>(1 - beta2),
                          static_cast<float>(eps),
                          static_cast<float>(scale),
                          static_cast<uint32_t>(noise)};
  const bool contiguous = parameter.is_contiguous() && mean.is_contiguous() && square.is_contiguous() && (!main.defined() || main.is_contiguous());
  if (!contiguous || !fits_kernel(parameter) || !fits_kernel(gradient)) return composed(parameter, main, gradient, mean, square, settings);
  const at::Tensor g = gradient.contiguous();
  const auto work = [&](auto kernel) { at::parallel_for(0, parameter.numel(), kWorthwhile, kernel); };
  with_type(g.scalar_type(), [&]<class G>(G) {
    const G* from = g.const_data_ptr<G>();
    if (!main.defined()) {
      auto *p = parameter.mutable_data_ptr<at::BFloat16>(), *m = mean.mutable_data_ptr<at::BFloat16>(), *v = square.mutable_data_ptr<at::BFloat16>();
      // Noise goes by vectors from element 0 on, so threads begin at whole vectors.
      at::parallel_for(0, (parameter.numel() + kLanes - 1) / kLanes, kWorthwhile / kLanes, [&](int64_t begin, int64_t end) {
        dispatch<Alone<G>>(p, from, m, v, begin * kLanes, std::min(end * kLanes, parameter.numel()), &settings);
      });
      return;
    }
    float *w = main.mutable_data_ptr<float>(), *m = mean.mutable_data_ptr<float>(), *v = square.mutable_data_ptr<float>();
    with_type(parameter.scalar_type(), [&]<class P>(P) {
      P* p = parameter.mutable_data_ptr<P>();
      work([&](int64_t begin, int64_t end) { dispatch<WithMaster<P, G>>(p, w, from, m, v, begin, end, &settings); });
    });
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def(
      "adamw_(Tensor(a!) parameter, Tensor(b!)? master, Tensor gradient, Tensor(c!) mean, Tensor(d!) square, float learning_rate, float beta1, "
      "float beta2, float eps, float weight_decay, int step, float scale, int noise) -> ()",
      adamw_);
  m.def("round_stochastic_(Tensor(a!) to, Tensor value, int noise) -> ()", round_stochastic_);
}

}  // namespace tinyllava

// One AdamW update of one parameter in one pass over memory (Loshchilov and Hutter 2019, arXiv:1711.05101). Either the parameter has a float32
// master or the lower half of one, or it is bfloat16 alone and its moments are bfloat16 too, rounded stochastically.
#include "adamw.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

namespace tinyllava {
namespace {

template <class Place, class G>
struct WholeMoments {
  static ALWAYS_INLINE void run(const Place* place, const G* gradient, float* mean, float* square, int64_t begin, int64_t end,
                                const AdamWSettings* settings) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Moved out = moved(place->at(i, count), take(gradient + i, count), take(mean + i, count), take(square + i, count), *settings);
      put(mean + i, out.mean, count);
      put(square + i, out.square, count);
      place->set(i, out.weight, count, settings->noise);
    }
  }
};

template <class Place, class G>
struct RoundedMoments {
  static ALWAYS_INLINE void run(const Place* place, const G* gradient, at::BFloat16* mean, at::BFloat16* square, int64_t begin, int64_t end,
                                const AdamWSettings* settings) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t count = end - i;
      const Moved out = moved(place->at(i, count), take(gradient + i, count), take(mean + i, count), take(square + i, count), *settings);
      // The lower half of the first word is the weight's.
      const Words first = noise_at(i, settings->noise), second = mixed(first + 0x9e3779b9U);
      put(mean + i, stochastic(out.mean, first >> 16), count);
      put(square + i, stochastic(out.square, second & 0xffff), count);
      place->set(i, out.weight, count, settings->noise);
    }
  }
};

void composed(const Weight& place, const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& square, const AdamWSettings& s) {
  const at::Tensor g = gradient.to(at::kFloat) * s.scale;
  const at::Tensor weight = place.value();
  const at::Tensor m = mean.to(at::kFloat).lerp(g, s.blend1);
  const at::Tensor v = square.to(at::kFloat) * s.beta2 + g * g * s.blend2;
  const at::Tensor next = weight - weight * s.decay - s.step_size * (m / (v.sqrt() / s.root + s.eps));
  if (mean.scalar_type() == at::kFloat) {
    mean.copy_(m);
    square.copy_(v);
  } else {
    const at::Tensor first = noise_for(place.parameter, s.noise);
    const at::Tensor second = mixed(first.add(static_cast<int64_t>(0x9e3779b9)).bitwise_and(static_cast<int64_t>(0xffffffff)));
    stochastic_into(mean, m, first.bitwise_right_shift(16));
    stochastic_into(square, v, second.bitwise_and(0xffff));
  }
  place.set(next, s.noise);
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

void check_halves(const char* name, const at::Tensor& upper, const at::Tensor& lower) {
  TORCH_CHECK(upper.sizes() == lower.sizes(), name, ": the upper halves are ", sizes(upper), " but the lower ", sizes(lower));
  TORCH_CHECK(upper.scalar_type() == at::kBFloat16 && lower.scalar_type() == at::kShort, name, ": expected bfloat16 and int16 halves, got ",
              upper.dtype(), " and ", lower.dtype());
  check_devices(name, upper, lower);
}

// The float32 numbers that two halves are.
at::Tensor join_halves(const at::Tensor& upper, const at::Tensor& lower) {
  check_halves("join_halves", upper, lower);
  const at::NoGradGuard without;
  return joined(upper, lower);
}

// Takes float32 numbers apart into two halves.
void split_halves_(const at::Tensor& upper, const at::Tensor& lower, const at::Tensor& value) {
  check_halves("split_halves_", upper, lower);
  TORCH_CHECK(value.scalar_type() == at::kFloat && value.sizes() == upper.sizes(), "split_halves_: expected float32 ", sizes(upper), ", got ",
              value.dtype(), " ", sizes(value));
  check_devices("split_halves_", upper, value);
  const at::NoGradGuard without;
  split_into(upper, lower, value);
}

constexpr int64_t kWorthwhile = 16384;

void adamw_(const at::Tensor& parameter, const std::optional<at::Tensor>& master, const std::optional<at::Tensor>& compensation,
            const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& square, double learning_rate, double beta1, double beta2, double eps,
            double weight_decay, int64_t step, double scale, int64_t noise) {
  const Weight weight{parameter, master.value_or(at::Tensor()), compensation.value_or(at::Tensor())};
  TORCH_CHECK(parameter.sizes() == gradient.sizes() && parameter.sizes() == mean.sizes() && parameter.sizes() == square.sizes(),
              "adamw_: the parameter is ", sizes(parameter), ", its gradient ", sizes(gradient), ", its moments ", sizes(mean), " and ",
              sizes(square));
  weight.check("adamw_");
  const bool whole = weight.master.defined();
  TORCH_CHECK(whole || parameter.scalar_type() == at::kBFloat16, "adamw_: a parameter without master is bfloat16");
  const at::ScalarType kept = whole ? at::kFloat : at::kBFloat16;
  TORCH_CHECK(mean.scalar_type() == kept && square.scalar_type() == kept, "adamw_: expected moments of ", kept, ", got ", mean.dtype());
  check_devices("adamw_", parameter, weight.master, weight.compensation, gradient, mean, square);
  const at::NoGradGuard without;
  const AdamWSettings settings = adamw_settings(learning_rate, beta1, beta2, eps, weight_decay, step, scale, noise);
  if (!weight.fits() || !mean.is_contiguous() || !square.is_contiguous() || !fits_kernel(gradient)) {
    return composed(weight, gradient, mean, square, settings);
  }
  const at::Tensor g = gradient.contiguous();
  const int64_t count = parameter.numel();
  with_type(g.scalar_type(), [&]<class G>(G) {
    const G* from = g.const_data_ptr<G>();
    weight.with_place([&]<class Place>(Place place) {
      // Noise goes by vectors from element 0 on, so threads begin at whole vectors.
      at::parallel_for(0, (count + kLanes - 1) / kLanes, kWorthwhile / kLanes, [&](int64_t begin, int64_t end) {
        begin *= kLanes;
        end = std::min(end * kLanes, count);
        if (whole) {
          dispatch<WholeMoments<Place, G>>(&place, from, mean.mutable_data_ptr<float>(), square.mutable_data_ptr<float>(), begin, end, &settings);
        } else {
          dispatch<RoundedMoments<Place, G>>(&place, from, mean.mutable_data_ptr<at::BFloat16>(), square.mutable_data_ptr<at::BFloat16>(), begin, end,
                                             &settings);
        }
      });
    });
  });
}

}  // namespace

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

at::Tensor noise_for(const at::Tensor& x, uint32_t noise) {
  const at::Tensor place = at::arange(x.numel(), x.options().dtype(at::kLong)).view(x.sizes());
  const at::Tensor seed = place.bitwise_right_shift(32).mul(static_cast<int64_t>(0x9e3779b9)).add(static_cast<int64_t>(noise));
  return mixed(place.bitwise_xor(seed).bitwise_and(static_cast<int64_t>(0xffffffff)));
}

at::Tensor joined(const at::Tensor& upper, const at::Tensor& lower) {
  return upper.to(at::kFloat).view(at::kInt).add(lower).view(at::kFloat);
}

void split_into(const at::Tensor& upper, const at::Tensor& lower, const at::Tensor& value) {
  const at::Tensor bits = value.contiguous().view(at::kInt);
  upper.copy_(bits.add(0x8000).bitwise_and(static_cast<int64_t>(-65536)).view(at::kFloat));
  lower.copy_(bits.bitwise_left_shift(16).bitwise_right_shift(16));
}

void Weight::set(const at::Tensor& value, uint32_t noise) const {
  if (split()) {
    split_into(parameter, master, value);
  } else if (master.defined()) {
    master.copy_(value);
    parameter.copy_(value);
  } else if (parameter.scalar_type() == at::kFloat) {
    parameter.copy_(value);
  } else if (compensation.defined()) {
    parameter.copy_(value);
    compensation.copy_(value - parameter.to(at::kFloat));
  } else {
    stochastic_into(parameter, value, noise_for(parameter, noise).bitwise_and(0xffff));
  }
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def(
      "adamw_(Tensor(a!) parameter, Tensor(b!)? master, Tensor(c!)? compensation, Tensor gradient, Tensor(d!) mean, Tensor(e!) square, "
      "float learning_rate, float beta1, float beta2, float eps, float weight_decay, int step, float scale, int noise) -> ()",
      adamw_);
  m.def("join_halves(Tensor upper, Tensor lower) -> Tensor", join_halves);
  m.def("split_halves_(Tensor(a!) upper, Tensor(b!) lower, Tensor value) -> ()", split_halves_);
  m.def("round_stochastic_(Tensor(a!) to, Tensor value, int noise) -> ()", round_stochastic_);
}

}  // namespace tinyllava

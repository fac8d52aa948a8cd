#pragma once
// What AdamW's kernels share: the arithmetic of one step, and the places that a weight is kept in. A place takes a weight as float32 and puts it
// back; besides the plain one it is the two halves of its bits, or bfloat16 alone, or, in ATen's operators, a float32 master with a rounded copy.
// In bfloat16 alone a small step added to a large weight would be lost by rounding to nearest, so that either it is rounded up or down with the
// probability that keeps the mean, or what was cut off is kept beside it and added the next time (stochastic rounding and Kahan summation; Zamirai
// et al. 2020, arXiv:2010.06192).
#include <cmath>

#include "common.h"
#include "simd.h"

namespace tinyllava {

struct AdamWSettings {
  float decay;       // learning rate * weight decay
  float step_size;   // learning rate / (1 - beta1^t)
  float root;        // sqrt(1 - beta2^t)
  float blend1, beta2, blend2, eps;  // blend = 1 - beta
  float scale;       // of the gradient
  uint32_t noise;
};

inline AdamWSettings adamw_settings(double learning_rate, double beta1, double beta2, double eps, double weight_decay, int64_t step, double scale,
                                    int64_t noise) {
  TORCH_CHECK(step >= 1, "adamw: steps count from 1, got ", step);
  return {static_cast<float>(learning_rate * weight_decay),
          static_cast<float>(learning_rate / (1 - std::pow(beta1, static_cast<double>(step)))),
          static_cast<float>(std::sqrt(1 - std::pow(beta2, static_cast<double>(step)))),
          static_cast<float>(1 - beta1),
          static_cast<float>(beta2),
          static_cast<float>(1 - beta2),
          static_cast<float>(eps),
          static_cast<float>(scale),
          static_cast<uint32_t>(noise)};
}

struct Moved {
  Floats weight, mean, square;
};

// The arithmetic is torch.optim.AdamW's.
ALWAYS_INLINE Moved moved(Floats weight, Floats gradient, Floats mean, Floats square, const AdamWSettings& s) {
  gradient *= s.scale;
  mean += (gradient - mean) * s.blend1;
  square = square * s.beta2 + gradient * gradient * s.blend2;
  Floats roots = square;
  for (int i = 0; i < kLanes; ++i) roots[i] = std::sqrt(square[i]);
  return {weight - weight * s.decay - s.step_size * (mean / (roots / s.root + s.eps)), mean, square};
}

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

struct Plain {
  float* weight;
  ALWAYS_INLINE Floats at(int64_t i, int64_t count) const { return take(weight + i, count); }
  ALWAYS_INLINE void set(int64_t i, Floats value, int64_t count, uint32_t) const { put(weight + i, value, count); }
};

// The lower 16 bits beside a bfloat16 parameter, which is the weight rounded to the nearest, a tie away from zero: a lower half that is negative as
// int16 then says that it was rounded away from zero, and nothing is lost. As "parameter remainders" in NVIDIA Apex's distributed_fused_adam.py.
struct Split {
  at::BFloat16* upper;
  int16_t* lower;
  ALWAYS_INLINE Floats at(int64_t i, int64_t count) const { return (Floats)((Ints)take(upper + i, count) + take(lower + i, count)); }
  ALWAYS_INLINE void set(int64_t i, Floats value, int64_t count, uint32_t) const {
    put(upper + i, (Floats)(((Words)value + 0x8000) & 0xffff0000U), count);
    put(lower + i, (Ints)value, count);
  }
};

struct Stochastic {
  at::BFloat16* parameter;
  ALWAYS_INLINE Floats at(int64_t i, int64_t count) const { return take(parameter + i, count); }
  ALWAYS_INLINE void set(int64_t i, Floats value, int64_t count, uint32_t noise) const {
    put(parameter + i, stochastic(value, noise_at(i, noise) & 0xffff), count);
  }
};

struct Compensated {
  at::BFloat16 *parameter, *rest;
  ALWAYS_INLINE Floats at(int64_t i, int64_t count) const { return take(parameter + i, count) + take(rest + i, count); }
  ALWAYS_INLINE void set(int64_t i, Floats value, int64_t count, uint32_t) const {
    put(parameter + i, value, count);
    put(rest + i, value - take(parameter + i, count), count);
  }
};

// The two halves of float32 numbers, in ATen's operators.
at::Tensor joined(const at::Tensor& upper, const at::Tensor& lower);
void split_into(const at::Tensor& upper, const at::Tensor& lower, const at::Tensor& value);

// The tensors of a place: a float32 master beside any parameter, or the lower half (int16) or the compensation of a bfloat16 one, or none.
struct Weight {
  at::Tensor parameter, master, compensation;

  void check(const char* name) const {
    const auto same = [&](const at::Tensor& other) { return !other.defined() || other.sizes() == parameter.sizes(); };
    TORCH_CHECK(same(master) && same(compensation), name, ": the parameter is ", sizes(parameter), ", what stands behind it is not");
    TORCH_CHECK(!(master.defined() && compensation.defined()), name, ": a parameter with a master needs no compensation");
    TORCH_CHECK(!master.defined() || master.scalar_type() == at::kFloat || (split() && parameter.scalar_type() == at::kBFloat16), name,
                ": a master is float32, or int16 as the lower half of a bfloat16 parameter");
    TORCH_CHECK(!compensation.defined() || (compensation.scalar_type() == at::kBFloat16 && parameter.scalar_type() == at::kBFloat16), name,
                ": compensation is bfloat16, of bfloat16 parameters");
  }
  bool split() const { return master.defined() && master.scalar_type() == at::kShort; }
  bool fits() const {
    const auto plain = [](const at::Tensor& x) { return !x.defined() || x.is_contiguous(); };
    return fits_kernel(parameter) && (split() || !master.defined()) && plain(parameter) && plain(master) && plain(compensation);
  }
  // Calls f with the place that these tensors are.
  template <class F>
  void with_place(F f) const {
    if (split()) {
      f(Split{parameter.mutable_data_ptr<at::BFloat16>(), master.mutable_data_ptr<int16_t>()});
    } else if (parameter.scalar_type() == at::kFloat) {
      f(Plain{parameter.mutable_data_ptr<float>()});
    } else if (compensation.defined()) {
      f(Compensated{parameter.mutable_data_ptr<at::BFloat16>(), compensation.mutable_data_ptr<at::BFloat16>()});
    } else {
      f(Stochastic{parameter.mutable_data_ptr<at::BFloat16>()});
    }
  }

  // The same in ATen's operators, for other layouts, devices and dtypes.
  at::Tensor value() const {
    if (split()) return joined(parameter, master);
    if (master.defined()) return master;
    const at::Tensor whole = parameter.to(at::kFloat);
    return compensation.defined() ? whole + compensation : whole;
  }
  void set(const at::Tensor& value, uint32_t noise) const;
};

// The noise above for the elements of a tensor, as int64.
at::Tensor noise_for(const at::Tensor& x, uint32_t noise);
at::Tensor mixed(const at::Tensor& x);
void stochastic_into(const at::Tensor& to, const at::Tensor& value, const at::Tensor& noise);

}  // namespace tinyllava

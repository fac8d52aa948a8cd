#pragma once
// The kernels of attention, of which `attention.cc` makes operators. Dims: N query rows, M key rows, H query heads, G key/value heads, each serving
// H / G query heads, D head size.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "simd.h"

namespace tinyllava {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// How scores are taken, and which keys a row sees.
struct Scoring {
  float scale;
  float cap;       // 0: none
  int64_t window;  // rows that a row sees, itself the last of them
  bool causal;

  int64_t first(int64_t position) const { return causal ? std::max<int64_t>(0, position + 1 - window) : 0; }
  int64_t end(int64_t position, int64_t keys) const { return causal ? std::min(keys, position + 1) : keys; }

  // Of a row's scores with `keys` keys, padded, those that it does not see become nothing.
  ALWAYS_INLINE void hide(float* scores, int64_t position, int64_t keys, int64_t padded) const {
    const int64_t from = std::min(keys, first(position)), to = std::max(from, end(position, keys));
    for (int64_t k = 0; k < from; ++k) scores[k] = kNever;
    for (int64_t k = to; k < padded; ++k) scores[k] = kNever;
  }
};

// Whether the kernel of packed sequences is there and the fastest: without AVX-512 ATen's own is, in bfloat16 without AVX512_BF16 too.
bool fits_packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// q [N, H, D], k and v [M, G, D] to [N, H, D], each sequence over its own keys, where that fits.
at::Tensor attend_packed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths, at::IntArrayRef key_lengths,
                         const Scoring& scoring);

// One query row [H, D] over keys and values [G, S, D] with unit strides in D, where fits_kernel(q), without gradients.
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values, double scale);

}  // namespace tinyllava

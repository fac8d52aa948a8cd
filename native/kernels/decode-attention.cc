// Attention of one new token over the key/value cache of its sequence, and how rows come into it. Dims: H query heads, G key/value heads, each
// serving H / G query heads, D head size. Positions are cut into spans, worked on by threads and merged by the running-maximum rule of the online softmax.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "attention.h"
#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

constexpr int64_t kSpan = 256;
constexpr int kTogether = 8;  // keys whose products with a query are summed at once

// One span of one key/value head for `heads` queries (float32, already scaled, [heads, D]): per query the largest score, the sum of the
// exponentials below it and the values weighted by them.
template <class T>
struct AttendSpan {
  // The products of a query with `Keys` keys, whose sums grow side by side so that no addition waits for the one before.
  template <int Keys>
  static ALWAYS_INLINE Floats products(const float* q, const T* k, int64_t k_row, int64_t D) {
    Floats sums[Keys] = {};
    int64_t d = 0;
    for (; d + kLanes <= D; d += kLanes) {
      for (int i = 0; i < Keys; ++i) sums[i] += load(q + d) * load(k + i * k_row + d);
    }
    if (d < D) {
      for (int i = 0; i < Keys; ++i) sums[i] += load_some(q + d, D - d) * load_some(k + i * k_row + d, D - d);
    }
    return sums_of<Keys>(sums);
  }

  template <int Vectors>
  static ALWAYS_INLINE void gather(const float* weights, const T* v, int64_t v_row, int64_t count, float* out) {
    Floats sums[Vectors] = {};
    for (int64_t p = 0; p < count; ++p) {
      for (int i = 0; i < Vectors; ++i) sums[i] += load(v + p * v_row + i * kLanes) * weights[p];
    }
    for (int i = 0; i < Vectors; ++i) store(out + i * kLanes, sums[i]);
  }

  static ALWAYS_INLINE void run(const float* q, const T* k, int64_t k_row, const T* v, int64_t v_row, int64_t count, int64_t heads, int64_t D,
                                float* scores, float* most, float* total, float* out) {
    int64_t p = 0;
    for (; p + kTogether <= count; p += kTogether) {
      for (int64_t h = 0; h < heads; ++h) {
        const Floats found = products<kTogether>(q + h * D, k + p * k_row, k_row, D);
        std::memcpy(scores + h * kSpan + p, &found, kTogether * sizeof(float));
      }
    }
    for (; p < count; ++p) {
      for (int64_t h = 0; h < heads; ++h) scores[h * kSpan + p] = products<1>(q + h * D, k + p * k_row, k_row, D)[0];
    }
    for (int64_t h = 0; h < heads; ++h) {
      float* weights = scores + h * kSpan;
      const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
      for (int64_t p = count; p < padded; ++p) weights[p] = -std::numeric_limits<float>::infinity();
      Floats largest_yet = load(weights);
      for (int64_t p = kLanes; p < padded; p += kLanes) largest_yet = maximum(largest_yet, load(weights + p));
      most[h] = largest(largest_yet);
      Floats totals = {};
      for (int64_t p = 0; p < padded; p += kLanes) {
        const Floats weight = exponential(load(weights + p) - most[h]);
        store(weights + p, weight);
        totals += weight;
      }
      total[h] = sum(totals);
      int64_t d = 0;
      for (; d + 4 * kLanes <= D; d += 4 * kLanes) gather<4>(weights, v + d, v_row, count, out + h * D + d);
      for (; d + kLanes <= D; d += kLanes) gather<1>(weights, v + d, v_row, count, out + h * D + d);
      for (; d < D; ++d) {
        float value = 0;
        for (int64_t p = 0; p < count; ++p) value += weights[p] * static_cast<float>(v[p * v_row + d]);
        out[h * D + d] = value;
      }
    }
  }
};

template <class T>
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  const int64_t H = q.size(0), D = q.size(1), G = k.size(0), length = k.size(1), heads = H / G;
  const int64_t spans = (length + kSpan - 1) / kSpan;
  std::vector<float> queries(H * D);
  for (int64_t h = 0; h < H; ++h) {
    const T* row = q.const_data_ptr<T>() + h * q.stride(0);
    for (int64_t d = 0; d < D; ++d) queries[h * D + d] = static_cast<float>(row[d * q.stride(1)]) * static_cast<float>(scale);
  }
  at::Tensor out = at::empty({H, D}, q.options());
  // Per key/value head and span: the largest scores, the totals and the values of its heads.
  const int64_t part = heads * (D + 2);
  std::vector<float> partial(G * spans * part);
  const float* from = queries.data();
  const T *keys = k.const_data_ptr<T>(), *values = v.const_data_ptr<T>();
  float* parts = partial.data();
  at::parallel_for(0, G * spans, grain(std::min(length, kSpan) * D * heads, 32768), [&](int64_t begin, int64_t end) {
    std::vector<float> scores(heads * kSpan);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t g = task / spans, first = task % spans * kSpan, count = std::min(kSpan, length - first);
      float* most = parts + task * part;
      dispatch<AttendSpan<T>>(from + g * heads * D, keys + g * k.stride(0) + first * k.stride(1), k.stride(1),
                              values + g * v.stride(0) + first * v.stride(1), v.stride(1), count, heads, D, scores.data(), most, most + heads,
                              most + 2 * heads);
    }
  });
  T* to = out.mutable_data_ptr<T>();
  for (int64_t h = 0; h < H; ++h) {
    const int64_t within = h % heads;
    const float* head = parts + h / heads * spans * part;
    float most = head[within], total = 0;
    for (int64_t s = 1; s < spans; ++s) most = std::max(most, head[s * part + within]);
    std::vector<float> sums(D, 0.0f);
    for (int64_t s = 0; s < spans; ++s) {
      const float* span = head + s * part;
      const float weight = std::exp(span[within] - most);
      total += weight * span[heads + within];
      for (int64_t d = 0; d < D; ++d) sums[d] += weight * span[2 * heads + within * D + d];
    }
    for (int64_t d = 0; d < D; ++d) to[h * D + d] = static_cast<T>(sums[d] / total);
  }
  return out;
}

template <class T>
void copy_rows(const at::Tensor& rows, const at::Tensor& room, int64_t position) {
  const int64_t count = rows.size(0), G = rows.size(1), D = rows.size(2);
  const T* from = rows.const_data_ptr<T>();
  T* to = room.mutable_data_ptr<T>() + position * room.stride(1);
  for (int64_t g = 0; g < G; ++g) {
    for (int64_t t = 0; t < count; ++t) {
      std::copy_n(from + t * rows.stride(0) + g * rows.stride(1), D, to + g * room.stride(0) + t * room.stride(1));
    }
  }
}

// Rows [T, G, D] of keys and values into their rooms [G, capacity, D] from `position` on.
void append_(const at::Tensor& key_room, const at::Tensor& value_room, const at::Tensor& keys, const at::Tensor& values, int64_t position) {
  TORCH_CHECK(key_room.dim() == 3 && keys.dim() == 3, "append_: expected a room [G, capacity, D] and rows [T, G, D], got ", sizes(key_room),
              " and ", sizes(keys));
  TORCH_CHECK(keys.size(1) == key_room.size(0) && keys.size(2) == key_room.size(2), "append_: rows ", sizes(keys), " do not fit a room of ",
              sizes(key_room));
  TORCH_CHECK(value_room.sizes() == key_room.sizes() && values.sizes() == keys.sizes(), "append_: keys are ", sizes(keys), " for ",
              sizes(key_room), " but values ", sizes(values), " for ", sizes(value_room));
  const int64_t count = keys.size(0);
  TORCH_CHECK(position >= 0 && position + count <= key_room.size(1), "append_: no room for ", count, " rows at ", position, " of ",
              key_room.size(1));
  check_devices("append_", key_room, value_room, keys, values);
  const at::NoGradGuard without;
  for (const auto& [room, rows] : {std::pair(key_room, keys), std::pair(value_room, values)}) {
    if (fits_kernel(room) && rows.dtype() == room.dtype() && room.stride(2) == 1 && rows.stride(2) == 1) {
      room.scalar_type() == at::kFloat ? copy_rows<float>(rows, room, position) : copy_rows<at::BFloat16>(rows, room, position);
    } else {
      room.narrow(1, position, count).copy_(rows.transpose(0, 1));
    }
  }
}

}  // namespace

at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values, double scale) {
  at::Tensor out;
  with_type(q.scalar_type(), [&]<class T>(T) { out = attend<T>(q, keys, values, scale); });
  return out;
}

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def("append_(Tensor(a!) key_room, Tensor(b!) value_room, Tensor keys, Tensor values, int position) -> ()", append_);
}

}  // namespace tinyllava

// The operators of attention: by the kernels here where those fit and are the fastest, else by ATen's.
#include <torch/library.h>

#include "attention.h"
#include "common.h"

namespace tinyllava {
namespace {

// By ATen's operators, for T queries over S keys each: q [B, T, H, D], k and v [B, S, G, D] to [B, T, H, D].
at::Tensor composed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Scoring& scoring) {
  const int64_t B = q.size(0), T = q.size(1), H = q.size(2), D = q.size(3), S = k.size(1), G = k.size(2);
  const at::Tensor queries = q.transpose(1, 2), keys = k.transpose(1, 2), values = v.transpose(1, 2);
  std::optional<at::Tensor> seen;
  // A single row sees all there is, and a mask would only choose a slower kernel.
  const bool all = !scoring.causal || (T == 1 && S <= scoring.window), triangle = T == S && S <= scoring.window;
  if (!all && (!triangle || scoring.cap > 0)) {
    const at::Tensor position = at::arange(S, q.options().dtype(at::kLong)), own = position.narrow(0, S - T, T).unsqueeze(1);
    seen = position.le(own);
    if (scoring.window < S) seen = seen->logical_and(position.gt(own - scoring.window));
  }
  if (scoring.cap == 0) {
    return at::scaled_dot_product_attention(queries, keys, values, seen, 0.0, !all && triangle, scoring.scale, H != G).transpose(1, 2);
  }
  // No operator bends scores, so they exist as a whole. Heads that share keys become more rows of one product.
  const at::Tensor raw = (queries * scoring.scale).reshape({B, G, H / G * T, D}).matmul(keys.transpose(2, 3)).view({B, H, T, S});
  at::Tensor scores = ((raw / scoring.cap).tanh() * scoring.cap).to(at::kFloat);
  if (seen) scores = scores.masked_fill(seen->logical_not(), kNever);
  const at::Tensor weights = scores.softmax(3).to(q.scalar_type()).view({B, G, H / G * T, S});
  return weights.matmul(values).view({B, H, T, D}).transpose(1, 2);
}

// Neighbouring sequences of one length share a call.
at::Tensor composed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths, at::IntArrayRef key_lengths,
                    const Scoring& scoring) {
  std::vector<int64_t> counts, rows, keys;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] == 0) continue;
    if (i > 0 && !counts.empty() && lengths[i] == lengths[i - 1] && key_lengths[i] == key_lengths[i - 1]) {
      ++counts.back();
      rows.back() += lengths[i];
      keys.back() += key_lengths[i];
    } else {
      counts.push_back(1);
      rows.push_back(lengths[i]);
      keys.push_back(key_lengths[i]);
    }
  }
  const auto parts = [](const at::Tensor& x, const std::vector<int64_t>& sizes) {
    // Not narrow, whose gradient fills one of all rows for every part.
    return sizes.size() == 1 ? std::vector<at::Tensor>{x} : x.split_with_sizes(sizes);
  };
  const auto queries = parts(q, rows), ks = parts(k, keys), vs = parts(v, keys);
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto batched = [&](const at::Tensor& x) { return x.unflatten(0, {counts[i], x.size(0) / counts[i]}); };
    outs.push_back(composed(batched(queries[i]), batched(ks[i]), batched(vs[i]), scoring).flatten(0, 1));
  }
  return outs.empty() ? at::empty_like(q) : outs.size() == 1 ? outs[0] : at::cat(outs);
}

void check(const char* name, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t heads, std::optional<int64_t> window,
           double softcap) {
  TORCH_CHECK(q.dim() == 3, name, ": expected q [N, H, D], got ", sizes(q));
  TORCH_CHECK(k.dim() == 3 && k.size(2) == q.size(2), name, ": expected k of three dimensions, D=", q.size(2), " the last, got ", sizes(k));
  TORCH_CHECK(v.sizes() == k.sizes(), name, ": k is ", sizes(k), " but v ", sizes(v));
  TORCH_CHECK(heads > 0 && q.size(1) % heads == 0, name, ": ", q.size(1), " query heads cannot share ", heads, " key/value heads");
  TORCH_CHECK(!window || *window > 0, name, ": a window has at least one row, got ", window.value_or(0));
  TORCH_CHECK(softcap >= 0, name, ": a soft cap is above zero, got ", softcap);
  check_devices(name, q, k, v);
}

constexpr int64_t kNoWindow = std::numeric_limits<int32_t>::max();

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths, at::IntArrayRef key_lengths,
                            bool causal, double scale, std::optional<int64_t> window, double softcap) {
  check("packed_attention", q, k, v, k.dim() == 3 ? k.size(1) : 0, window, softcap);
  TORCH_CHECK(lengths.size() == key_lengths.size(), "packed_attention: ", lengths.size(), " sequences of queries but ", key_lengths.size(), " of keys");
  int64_t rows = 0, keys = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    TORCH_CHECK(lengths[i] > 0 ? key_lengths[i] >= (causal ? lengths[i] : 1) : lengths[i] == 0 && key_lengths[i] == 0, "packed_attention: ",
                lengths[i], " rows cannot look at ", key_lengths[i], " keys");
    rows += lengths[i];
    keys += key_lengths[i];
  }
  TORCH_CHECK(rows == q.size(0) && keys == k.size(0), "packed_attention: lengths sum to ", rows, " and ", keys, ", but q is ", sizes(q), " and k ", sizes(k));
  const Scoring scoring = {static_cast<float>(scale), static_cast<float>(softcap), window.value_or(kNoWindow), causal};
  if (fits_packed_attention(q, k, v) && q.numel() > 0) return attend_packed(q, k, v, lengths, key_lengths, scoring);
  return composed(q, k, v, lengths, key_lengths, scoring);
}

// The last `q.size(0)` rows of one sequence over the first `length` rows of its cache [G, capacity, D].
at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values, int64_t length, double scale,
                            std::optional<int64_t> window, double softcap) {
  check("cached_attention", q, keys, values, keys.dim() == 3 ? keys.size(0) : 0, window, softcap);
  const int64_t T = q.size(0);
  TORCH_CHECK(length >= T && length <= keys.size(1), "cached_attention: length ", length, " is not between ", T, " and the capacity ", keys.size(1));
  // What lies before the first row's window is seen by none.
  const int64_t from = std::max<int64_t>(0, length - T + 1 - window.value_or(kNoWindow)), count = length - from;
  const at::Tensor ks = keys.narrow(1, from, count), vs = values.narrow(1, from, count), k = ks.transpose(0, 1), v = vs.transpose(0, 1);
  const bool plain = q.numel() > 0 && !needs_grad(q, k, v) && k.dtype() == q.dtype() && v.dtype() == q.dtype();
  if (plain && T == 1 && softcap == 0 && fits_kernel(q) && k.stride(2) == 1 && v.stride(2) == 1) {
    return decode_attention(q.squeeze(0), ks, vs, scale).unsqueeze(0);
  }
  const Scoring scoring = {static_cast<float>(scale), static_cast<float>(softcap), window.value_or(kNoWindow), true};
  if (plain && fits_packed_attention(q, k, v)) return attend_packed(q, k, v, T, count, scoring);
  return composed(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), scoring).squeeze(0);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def("cached_attention(Tensor q, Tensor keys, Tensor values, int length, float scale, int? window=None, float softcap=0.) -> Tensor",
        cached_attention);
  m.def("packed_attention(Tensor q, Tensor k, Tensor v, int[] lengths, int[] key_lengths, bool causal, float scale, int? window=None, "
        "float softcap=0.) -> Tensor",
        packed_attention);
}

}  // namespace tinyllava

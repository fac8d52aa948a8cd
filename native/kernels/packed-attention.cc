// Attention of sequences of any lengths in one call, each within itself or over its own cache, without their scores ever existing as a whole:
// FlashAttention-2 (Dao 2023, arXiv:2307.08691) for processors. What a sequence gives does not depend on its neighbours or on the threads.
// Dims: N query rows, M key rows, H query heads, G key/value heads, each serving H / G query heads, D head size.
#include <ATen/Parallel.h>

#include <atomic>
#include <cmath>
#include <utility>

#include "attention-steps.h"
#include "attention.h"
#include "common.h"

namespace tinyllava {
namespace {

// Element (n, h, d) is at data[n * row + h * head + d].
template <class T>
struct Rows {
  const T* data;
  int64_t row, head;
  const T* at(int64_t n, int64_t h) const { return data + n * row + h * head; }
};

struct Dims {
  int64_t H, G, D;
  int64_t width() const { return (D + kLanes - 1) / kLanes * kLanes; }
};

// Rows of queries behind one another over rows of keys, the last query at the last key where attention is causal.
struct Sequence {
  int64_t query, queries, key, keys;
  int64_t block;  // of its first keys among all blocks
  int64_t older() const { return keys - queries; }
  int64_t blocks() const { return (keys + kKeys - 1) / kKeys; }
};

int64_t number_blocks(std::vector<Sequence>& sequences) {
  int64_t blocks = 0;
  for (Sequence& sequence : sequences) {
    sequence.block = blocks;
    blocks += sequence.blocks();
  }
  return blocks;
}

// Tasks by the dozen of very different cost: whoever is done takes the next.
template <class Task>
void share(int64_t tasks, int64_t elements, const Task& task) {
  std::atomic<int64_t> next = 0;
  const int64_t workers = std::min<int64_t>({at::get_num_threads(), tasks, elements / (1 << 16) + 1});
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < tasks; i = next++) task(i);
  });
}

// Keys or values of all sequences in words, block by block.
template <class Format>
class Panels {
 public:
  Panels(const std::vector<Sequence>& sequences, int64_t blocks, Dims dims) : sequences_(sequences), blocks_(blocks), dims_(dims) {}

  at::Tensor across(Rows<typename Format::Element> x) const {
    const int64_t words = dims_.D / Format::each;
    return fill(words * kKeys, [&](const Sequence& s, int64_t g, int64_t b, float* to) {
      Format::template run<Across<Format>>(x.at(s.key + b * kKeys, g), x.row, std::min(kKeys, s.keys - b * kKeys), words, to);
    });
  }

  at::Tensor along(Rows<typename Format::Element> x) const {
    return fill(kKeys / Format::each * dims_.width(), [&](const Sequence& s, int64_t g, int64_t b, float* to) {
      Format::template run<Along<Format>>(x.at(s.key + b * kKeys, g), x.row, std::min(kKeys, s.keys - b * kKeys), dims_.D, dims_.width(), to);
    });
  }

 private:
  template <class Fill>
  at::Tensor fill(int64_t size, const Fill& fill) const {
    const at::Tensor panels = at::empty({dims_.G, blocks_, size}, at::kFloat);
    float* to = panels.mutable_data_ptr<float>();
    share(static_cast<int64_t>(sequences_.size()) * dims_.G, panels.numel(), [&](int64_t task) {
      const Sequence& s = sequences_[task / dims_.G];
      const int64_t g = task % dims_.G;
      for (int64_t b = 0; b < s.blocks(); ++b) fill(s, g, b, to + (g * blocks_ + s.block + b) * size);
    });
    return panels;
  }

  const std::vector<Sequence>& sequences_;
  int64_t blocks_;
  Dims dims_;
};

template <class T>
const float* words(const T* x) {
  return reinterpret_cast<const float*>(x);
}

// To `out` [N, H, D]; `below` [H, N] gets the logarithm of what each row's exponentials sum to, where it is given.
template <class Format, class T = typename Format::Element>
void attend(Rows<T> q, Rows<T> k, Rows<T> v, std::vector<Sequence> sequences, Dims dims, const Scoring& scoring, T* out, float* below, int64_t N) {
  constexpr int64_t kQueries = Format::queries;
  const int64_t D = dims.D, width = dims.width(), heads = dims.H / dims.G, each = Format::each, blocks = number_blocks(sequences);
  const Panels<Format> panels(sequences, blocks, dims);
  const at::Tensor keys = panels.across(k), values = panels.along(v);
  const float *key_words = keys.const_data_ptr<float>(), *value_words = values.const_data_ptr<float>();
  struct Task {
    const Sequence* sequence;
    int64_t first, head;
  };
  std::vector<Task> tasks;
  for (const Sequence& s : sequences) {
    // The last rows have most to do.
    for (int64_t first = (s.queries - 1) / kQueries * kQueries; first >= 0; first -= kQueries) {
      for (int64_t h = 0; h < dims.H; ++h) tasks.push_back({&s, first, h});
    }
  }
  share(tasks.size(), static_cast<int64_t>(tasks.size()) * kQueries * kKeys * D, [&](int64_t index) {
    const auto [sequence, first, h] = tasks[index];
    const Sequence& s = *sequence;
    const int64_t rows = std::min(kQueries, s.queries - first), position = s.older() + first, panel = h / heads * blocks + s.block;
    std::vector<float> scores(kQueries * kChunk), sums(kQueries * width), most(rows, kNever), total(rows);
    std::vector<T> weights(kQueries * kChunk);
    const T* queries = q.at(s.query + first, h);
    const int64_t end = scoring.end(position + rows - 1, s.keys);
    for (int64_t key = scoring.first(position) / kKeys * kKeys; key < end; key += kChunk) {
      const int64_t count = std::min(kChunk, end - key);
      for (int64_t at = 0; at < count; at += kKeys) {
        const float* across = key_words + (panel + (key + at) / kKeys) * (D / each) * kKeys;
        multiply<Format>(words(queries), q.row / each, 1, across, kKeys, scores.data() + at, kChunk, rows, kKeys, D / each, false);
      }
      Format::template run<Exponentials<Format>>(scores.data(), weights.data(), most.data(), total.data(), sums.data(), rows, count, position - key,
                                                 width, &scoring);
      const float* along = value_words + (panel * kKeys + key) / each * width;
      multiply<Format>(words(weights.data()), kChunk / each, 1, along, width, sums.data(), width, rows, width, (count + each - 1) / each, true);
    }
    dispatch<Finish<T>>(std::as_const(sums).data(), width, int64_t{1}, int64_t{0}, std::as_const(total).data(),
                        out + ((s.query + first) * dims.H + h) * D, dims.H * D, rows, D);
    for (int64_t r = 0; below && r < rows; ++r) below[h * N + s.query + first + r] = most[r] + std::log(total[r]);
  });
}

// Gradients of q [N, H, D], k and v [M, G, D] by that of `out`. Every head has sums of its own, so that no two tasks add to one place.
template <class Format, class T = typename Format::Element>
void attend_back(Rows<T> q, Rows<T> k, Rows<T> v, Rows<T> out, Rows<T> grad, const float* below, std::vector<Sequence> sequences, Dims dims,
                 const Scoring& scoring, int64_t N, int64_t M, T* dq, T* dk, T* dv) {
  constexpr int64_t kQueries = Format::queries;
  const int64_t D = dims.D, width = dims.width(), heads = dims.H / dims.G, each = Format::each, blocks = number_blocks(sequences);
  const Panels<Format> panels(sequences, blocks, dims);
  const at::Tensor keys = panels.across(k), values = panels.across(v), key_rows = panels.along(k);
  const float *key_words = keys.const_data_ptr<float>(), *value_words = values.const_data_ptr<float>(), *row_words = key_rows.const_data_ptr<float>();
  const at::Tensor sums = at::empty({2, dims.H, M, width}, at::kFloat);
  float *key_sums = sums.mutable_data_ptr<float>(), *value_sums = key_sums + dims.H * M * width;
  share(static_cast<int64_t>(sequences.size()) * dims.H, N * dims.H * D * kKeys, [&](int64_t index) {
    const Sequence& s = sequences[index / dims.H];
    const int64_t h = index % dims.H, panel = h / heads * blocks + s.block, padded = (s.queries + each - 1) / each * width;
    std::vector<float> query_sums(s.queries * width), query_rows(padded), grad_rows(padded), delta(s.queries);
    Format::template run<Along<Format>>(q.at(s.query, h), q.row, s.queries, D, width, query_rows.data());
    Format::template run<Along<Format>>(grad.at(s.query, h), grad.row, s.queries, D, width, grad_rows.data());
    dispatch<Dot<T>>(out.at(s.query, h), out.row, grad.at(s.query, h), grad.row, s.queries, D, delta.data());
    std::vector<float> scores(kQueries * kKeys), weight_grads(kQueries * kKeys), weight_words(kQueries * kKeys), grad_words(kQueries * kKeys);
    std::vector<T> score_grads(kQueries * kKeys);
    for (int64_t block = 0; block < s.blocks(); ++block) {
      const int64_t key = block * kKeys, count = std::min(kKeys, s.keys - key);
      const float *key_across = key_words + (panel + block) * (D / each) * kKeys, *value_across = value_words + (panel + block) * (D / each) * kKeys;
      const float* key_along = row_words + (panel + block) * (kKeys / each) * width;
      float *dk_sums = key_sums + (h * M + s.key + key) * width, *dv_sums = value_sums + (h * M + s.key + key) * width;
      // The last of these keys is the last that is seen, by the rows of one window.
      const int64_t first = scoring.causal ? std::max<int64_t>(0, key - s.older()) / kQueries * kQueries : 0;
      const int64_t end = scoring.causal && scoring.window < s.keys ? std::min(s.queries, key + count - 1 + scoring.window - s.older()) : s.queries;
      if (first >= end) {
        std::fill_n(dk_sums, count * width, 0.0f);
        std::fill_n(dv_sums, count * width, 0.0f);
      }
      for (int64_t row = first; row < end; row += kQueries) {
        const int64_t rows = std::min(kQueries, s.queries - row), steps = (rows + each - 1) / each;
        const bool onto = row > first;
        multiply<Format>(words(q.at(s.query + row, h)), q.row / each, 1, key_across, kKeys, scores.data(), kKeys, rows, kKeys, D / each, false);
        multiply<Format>(words(grad.at(s.query + row, h)), grad.row / each, 1, value_across, kKeys, weight_grads.data(), kKeys, rows, kKeys, D / each,
                         false);
        Format::template run<ScoreGradients<Format>>(scores.data(), std::as_const(weight_grads).data(), below + h * N + s.query + row,
                                                     std::as_const(delta).data() + row, weight_words.data(), grad_words.data(), score_grads.data(),
                                                     rows, count, s.older() + row - key, &scoring);
        multiply<Format>(weight_words.data(), 1, kKeys, grad_rows.data() + row / each * width, width, dv_sums, width, count, width, steps, onto);
        multiply<Format>(grad_words.data(), 1, kKeys, query_rows.data() + row / each * width, width, dk_sums, width, count, width, steps, onto);
        multiply<Format>(words(score_grads.data()), kKeys / each, 1, key_along, width, query_sums.data() + row * width, width, rows, width,
                         (count + each - 1) / each, true);
      }
    }
    dispatch<Finish<T>>(std::as_const(query_sums).data(), width, int64_t{1}, int64_t{0}, static_cast<const float*>(nullptr),
                        dq + (s.query * dims.H + h) * D, dims.H * D, s.queries, D);
  });
  at::parallel_for(0, M, grain(dims.H * width), [&](int64_t begin, int64_t end) {
    for (int64_t g = 0; g < dims.G; ++g) {
      for (const auto& [from, to] : {std::pair(key_sums, dk), std::pair(value_sums, dv)}) {
        dispatch<Finish<T>>(static_cast<const float*>(from + (g * heads * M + begin) * width), width, heads, M * width,
                            static_cast<const float*>(nullptr), to + (begin * dims.G + g) * D, dims.G * D, end - begin, D);
      }
    }
  });
}

template <class F>
void with_format(at::ScalarType dtype, F f) {
#if HAS_TILES
  if (dtype == at::kBFloat16 && has_tiles()) return f(BFloat16Tiles());
#endif
#if HAS_BFLOAT16_DOT
  if (dtype == at::kBFloat16) return f(BFloat16Words());
#endif
  f(FloatWords());
}

template <class Format>
Rows<typename Format::Element> rows_of(const at::Tensor& x) {
  return {x.const_data_ptr<typename Format::Element>(), x.stride(0), x.stride(1)};
}

// Of the sequences that hold anything.
std::vector<Sequence> sequences_of(at::IntArrayRef lengths, at::IntArrayRef key_lengths) {
  std::vector<Sequence> sequences;
  int64_t query = 0, key = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > 0) sequences.push_back({query, lengths[i], key, key_lengths[i], 0});
    query += lengths[i];
    key += key_lengths[i];
  }
  return sequences;
}

// Pairs of elements are read as words.
at::Tensor readable(const at::Tensor& x) {
  return x.stride(2) == 1 && x.stride(0) % 2 == 0 && x.stride(1) % 2 == 0 ? x : x.contiguous();
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<Sequence>& sequences, const Scoring& scoring,
                  float* below) {
  const int64_t N = q.size(0), H = q.size(1), D = q.size(2);
  at::Tensor out = at::empty({N, H, D}, q.options());
  with_format(q.scalar_type(), [&]<class Format>(Format) {
    attend<Format>(rows_of<Format>(q), rows_of<Format>(k), rows_of<Format>(v), sequences, {H, k.size(1), D}, scoring,
                   out.mutable_data_ptr<typename Format::Element>(), below, N);
  });
  return out;
}

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            at::IntArrayRef lengths, at::IntArrayRef key_lengths, const Scoring& scoring) {
    const at::Tensor below = at::empty({q.size(1), q.size(0)}, at::kFloat);
    const at::Tensor out = attend(q, k, v, sequences_of(lengths, key_lengths), scoring, below.mutable_data_ptr<float>());
    ctx->save_for_backward({q, k, v, out, below});
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["key_lengths"] = key_lengths;
    ctx->saved_data["scale"] = scoring.scale;
    ctx->saved_data["cap"] = scoring.cap;
    ctx->saved_data["window"] = scoring.window;
    ctx->saved_data["causal"] = scoring.causal;
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("packed_attention");
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], grad = grads[0].contiguous();
    const Scoring scoring = {static_cast<float>(data["scale"].toDouble()), static_cast<float>(data["cap"].toDouble()), data["window"].toInt(),
                             data["causal"].toBool()};
    const std::vector<Sequence> sequences = sequences_of(data["lengths"].toIntVector(), data["key_lengths"].toIntVector());
    at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()), dv = at::empty(v.sizes(), v.options());
    with_format(q.scalar_type(), [&]<class Format>(Format) {
      using T = typename Format::Element;
      attend_back<Format>(rows_of<Format>(q), rows_of<Format>(k), rows_of<Format>(v), rows_of<Format>(saved[3]), rows_of<Format>(grad),
                          saved[4].const_data_ptr<float>(), sequences, {q.size(1), k.size(1), q.size(2)}, scoring, q.size(0), k.size(0),
                          dq.mutable_data_ptr<T>(), dk.mutable_data_ptr<T>(), dv.mutable_data_ptr<T>());
    });
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool fits_packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (!fits_kernel(q) || isa() != Isa::avx512 || k.dtype() != q.dtype() || v.dtype() != q.dtype()) return false;
  return q.scalar_type() == at::kFloat || (has_bfloat16_dot() && q.size(2) % 2 == 0);
}

at::Tensor attend_packed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef lengths, at::IntArrayRef key_lengths,
                         const Scoring& scoring) {
  const at::Tensor queries = readable(q), keys = readable(k), values = readable(v);
  if (needs_grad(q, k, v)) return PackedAttention::apply(queries, keys, values, lengths, key_lengths, scoring);
  return attend(queries, keys, values, sequences_of(lengths, key_lengths), scoring, nullptr);
}

}  // namespace tinyllava

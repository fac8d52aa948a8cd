// Attention of sequences of any lengths in one call, each within itself or over its own cache, without their scores ever existing as a whole:
// FlashAttention-2 (Dao 2023, arXiv:2307.08691) for processors. What a sequence gives does not depend on its neighbours or on the threads.
// Dims: N query rows, M key rows, H query heads, G key/value heads, each serving H / G query heads, D head size.
//
// All products are of one form, C = A . B with B's columns in vector lanes. A step of a product takes one 32-bit word of either side: a
// float32, or a pair of bfloat16 neighbours along the sum. Keys and values are laid out for it once per sequence: `across` has the words of 64
// rows side by side (for products over D), `along` has rows as they are, two bfloat16 rows interleaved (for products over rows).
#include <ATen/Parallel.h>
#include <ATen/cpu/Utils.h>
#include <torch/library.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <utility>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

constexpr int64_t kQueries = 48;  // query rows of a task
constexpr int64_t kKeys = 64;     // key rows of a block
constexpr int64_t kChunk = 128;   // key rows whose scores a task holds at once
constexpr float kNever = -std::numeric_limits<float>::infinity();

struct FloatWords {
  using Element = float;
  static constexpr int64_t each = 1;  // elements of a word
  template <class Kernel, class... Args>
  static void run(Args... args) {
    dispatch<Kernel>(args...);
  }
  static ALWAYS_INLINE Floats add(Floats sum, const float* a, Floats b) { return sum + b * *a; }
  static ALWAYS_INLINE Floats word(Floats first, Floats) { return first; }
};

#if HAS_BFLOAT16_DOT
struct BFloat16Words {
  using Element = at::BFloat16;
  static constexpr int64_t each = 2;
  template <class Kernel, class... Args>
  static void run(Args... args) {
    run_avx512<Kernel>(args...);
  }
  static ALWAYS_INLINE Floats add(Floats sum, const float* a, Floats b) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*a));
    return sum;
  }
  static ALWAYS_INLINE Floats word(Floats first, Floats second) {
    const auto rounded = [](Floats x) __attribute__((always_inline)) {
      const Words bits = (Words)x;
      return bits + 0x7fff + ((bits >> 16) & 1);
    };
    return (Floats)((rounded(first) >> 16) | (rounded(second) & 0xffff0000u));
  }
};
#endif

ALWAYS_INLINE Floats hyperbolic_tangent(Floats x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

// C[rows, vectors of lanes] (+)= A . B over `steps` words. Strides count words.
template <class Format>
struct Multiply {
  template <int R, int V>
  static ALWAYS_INLINE void tile(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c, int64_t c_row,
                                 int64_t steps, bool onto) {
    Floats sums[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < V; ++i) sums[r][i] = onto ? load(c + r * c_row + i * kLanes) : Floats{};
    }
    for (int64_t s = 0; s < steps; ++s) {
      Floats right[V];
#pragma GCC unroll 8
      for (int i = 0; i < V; ++i) right[i] = load(b + s * b_step + i * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < V; ++i) sums[r][i] = Format::add(sums[r][i], a + r * a_row + s * a_step, right[i]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < V; ++i) store(c + r * c_row + i * kLanes, sums[r][i]);
    }
  }

  template <int V>
  static ALWAYS_INLINE void columns(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c, int64_t c_row,
                                    int64_t rows, int64_t steps, bool onto) {
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6) tile<6, V>(a + r * a_row, a_row, a_step, b, b_step, c + r * c_row, c_row, steps, onto);
    for (; r + 2 <= rows; r += 2) tile<2, V>(a + r * a_row, a_row, a_step, b, b_step, c + r * c_row, c_row, steps, onto);
    if (r < rows) tile<1, V>(a + r * a_row, a_row, a_step, b, b_step, c + r * c_row, c_row, steps, onto);
  }

  static ALWAYS_INLINE void run(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c, int64_t c_row,
                                int64_t rows, int64_t vectors, int64_t steps, bool onto) {
    int64_t v = 0;
    for (; v + 4 <= vectors; v += 4) columns<4>(a, a_row, a_step, b + v * kLanes, b_step, c + v * kLanes, c_row, rows, steps, onto);
    for (; v + 2 <= vectors; v += 2) columns<2>(a, a_row, a_step, b + v * kLanes, b_step, c + v * kLanes, c_row, rows, steps, onto);
    if (v < vectors) columns<1>(a, a_row, a_step, b + v * kLanes, b_step, c + v * kLanes, c_row, rows, steps, onto);
  }
};

template <class Format>
void multiply(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c, int64_t c_row, int64_t rows, int64_t width,
              int64_t steps, bool onto) {
  Format::template run<Multiply<Format>>(a, a_row, a_step, b, b_step, c, c_row, rows, width / kLanes, steps, onto);
}

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

// Scores of `rows` queries with `count` keys become exponentials below the largest score that a query has seen, in words along the keys; what
// was summed below a smaller one is scaled down. `position` is that of the first query, counted from the first of these keys.
template <class Format>
struct Exponentials {
  using Element = typename Format::Element;
  static ALWAYS_INLINE void run(float* scores, Element* weights, float* most, float* total, float* out, int64_t rows, int64_t count,
                                int64_t position, int64_t width, const Scoring* scoring) {
    for (int64_t r = 0; r < rows; ++r) {
      float* row = scores + r * kChunk;
      Element* to = weights + r * kChunk;
      const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
      scoring->hide(row, position + r, count, padded);
      Floats largest_yet = broadcast(kNever);
      Ints wrong = {};
      for (int64_t k = 0; k < padded; k += kLanes) {
        Floats score = load(row + k) * scoring->scale;
        // What is not seen stays so: the tangent would make it the smallest score.
        if (scoring->cap > 0) score = select(score == kNever, score, hyperbolic_tangent(score / scoring->cap) * scoring->cap);
        wrong |= score != score;
        largest_yet = maximum(largest_yet, score);
        store(row + k, score);
      }
      const float now = std::max(most[r], largest(largest_yet));
      const bool finite = !any(wrong) && now < std::numeric_limits<float>::infinity();
      const float factor = most[r] == kNever ? 0.0f : std::exp(most[r] - now);
      Floats totals = {};
      for (int64_t k = 0; k < padded; k += kLanes) {
        const Floats weight = now == kNever ? Floats{} : exponential(load(row + k) - now);
        store(to + k, weight);
        totals += weight;
      }
      total[r] = finite ? total[r] * factor + sum(totals) : std::numeric_limits<float>::quiet_NaN();
      most[r] = now;
      if (factor != 1.0f) {
        for (int64_t d = 0; d < width; d += kLanes) store(out + r * width + d, load(out + r * width + d) * factor);
      }
    }
  }

  static ALWAYS_INLINE bool any(Ints bits) {
    int32_t out = 0;
    for (int64_t i = 0; i < kLanes; ++i) out |= bits[i];
    return out != 0;
  }
};

// Of the scores [rows, kKeys] and the gradients of their weights: the weights and the gradients of the scores in words along the queries
// (for the gradients of values and keys), and the latter along the keys (for that of the queries) as well.
template <class Format>
struct ScoreGradients {
  using Element = typename Format::Element;
  struct Row {
    Floats weight, grad;
  };
  static ALWAYS_INLINE Row row(const float* scores, const float* grads, float below, float delta, const Scoring* scoring) {
    const Floats raw = load(scores) * scoring->scale;
    if (!(scoring->cap > 0)) {
      const Floats weight = exponential(raw - below);
      return {weight, weight * (load(grads) - delta) * scoring->scale};
    }
    const Floats bent = hyperbolic_tangent(raw / scoring->cap);
    const Floats weight = select(raw == kNever, Floats{}, exponential(bent * scoring->cap - below));
    return {weight, weight * (load(grads) - delta) * (1.0f - bent * bent) * scoring->scale};
  }

  static ALWAYS_INLINE void run(float* scores, const float* grads, const float* below, const float* delta, float* weight_words, float* grad_words,
                                Element* grad_rows, int64_t rows, int64_t count, int64_t position, const Scoring* scoring) {
    for (int64_t r = 0; r < rows; ++r) scoring->hide(scores + r * kKeys, position + r, count, kKeys);
    for (int64_t r = 0; r < rows; r += Format::each) {
      const bool paired = Format::each == 2 && r + 1 < rows;
      for (int64_t k = 0; k < kKeys; k += kLanes) {
        const int64_t i = r * kKeys + k;
        const Row one = row(scores + i, grads + i, below[r], delta[r], scoring);
        const Row other = paired ? row(scores + i + kKeys, grads + i + kKeys, below[r + 1], delta[r + 1], scoring) : Row{};
        store(weight_words + r / Format::each * kKeys + k, Format::word(one.weight, other.weight));
        store(grad_words + r / Format::each * kKeys + k, Format::word(one.grad, other.grad));
        store(grad_rows + i, one.grad);
        if (paired) store(grad_rows + i + kKeys, other.grad);
      }
    }
  }
};

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

// `count` rows become [words][kKeys], of which the lanes behind `count` are zero.
template <class Format>
struct Across {
  static ALWAYS_INLINE void run(const typename Format::Element* from, int64_t row, int64_t count, int64_t words, float* to) {
    for (int64_t w = 0; w < words; ++w) {
      for (int64_t r = 0; r < count; ++r) std::memcpy(to + w * kKeys + r, from + r * row + w * Format::each, sizeof(float));
      for (int64_t r = count; r < kKeys; ++r) to[w * kKeys + r] = 0;
    }
  }
};

// `count` rows of D become [rows of words][width], which are zero behind D; a bfloat16 row without a second is paired with zeros.
template <class Format>
struct Along {
  static ALWAYS_INLINE void run(const typename Format::Element* from, int64_t row, int64_t count, int64_t D, int64_t width, float* to) {
    for (int64_t r = 0; r < count; r += Format::each) {
      const bool paired = r + 1 < count;
      for (int64_t d = 0; d < width; d += kLanes) {
        const int64_t some = std::min(kLanes, D - d);
        const auto read = [&](const auto* x) __attribute__((always_inline)) { return some == kLanes ? load(x + d) : load_some(x + d, some); };
        const Floats second = Format::each == 2 && paired ? read(from + (r + 1) * row) : Floats{};
        store(to + r / Format::each * width + d, Format::word(read(from + r * row), second));
      }
    }
  }
};

// The rows of one head, added up over `parts` buffers that lie `apart`, divided by `total` and rounded.
template <class T>
struct Finish {
  static ALWAYS_INLINE void run(const float* from, int64_t width, int64_t parts, int64_t apart, const float* total, T* to, int64_t to_row,
                                int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t d = 0; d < D; d += kLanes) {
        Floats value = load(from + r * width + d);
        for (int64_t p = 1; p < parts; ++p) value += load(from + p * apart + r * width + d);
        if (total) value = value / total[r];
        if (d + kLanes <= D) {
          store(to + r * to_row + d, value);
        } else {
          store_some(to + r * to_row + d, value, D - d);
        }
      }
    }
  }
};

template <class T>
struct Dot {
  static ALWAYS_INLINE void run(const T* a, int64_t a_row, const T* b, int64_t b_row, int64_t rows, int64_t D, float* out) {
    for (int64_t r = 0; r < rows; ++r) {
      Floats sums = {};
      for (int64_t d = 0; d < D; d += kLanes) {
        const int64_t some = std::min(kLanes, D - d);
        if (some == kLanes) {
          sums += load(a + r * a_row + d) * load(b + r * b_row + d);
        } else {
          sums += load_some(a + r * a_row + d, some) * load_some(b + r * b_row + d, some);
        }
      }
      out[r] = sum(sums);
    }
  }
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

// With AMX, ATen's own kernel is the faster one in bfloat16; without AVX-512 it is in both.
bool fits(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  static const bool dots = HAS_BFLOAT16_DOT && [] {
    const auto capabilities = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char* name) { return capabilities.count(name) && capabilities.at(name).toBool(); };
    return has("avx512_bf16") && !has("amx_bf16");
  }();
  if (!fits_kernel(q) || isa() != Isa::avx512 || k.dtype() != q.dtype() || v.dtype() != q.dtype()) return false;
  return q.scalar_type() == at::kFloat || (dots && q.size(2) % 2 == 0);
}

template <class F>
void with_format(at::ScalarType dtype, F f) {
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

// The same by ATen's operators, for T queries over S keys each: q [B, T, H, D], k and v [B, S, G, D] to [B, T, H, D].
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
  if (!fits(q, k, v) || q.numel() == 0) return composed(q, k, v, lengths, key_lengths, scoring);
  const at::Tensor queries = readable(q), ks = readable(k), vs = readable(v);
  if (needs_grad(q, k, v)) return PackedAttention::apply(queries, ks, vs, lengths, key_lengths, scoring);
  return attend(queries, ks, vs, sequences_of(lengths, key_lengths), scoring, nullptr);
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
  if (plain && fits(q, k, v)) return attend(readable(q), readable(k), readable(v), sequences_of(T, count), scoring, nullptr);
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

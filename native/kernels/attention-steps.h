#pragma once
// What tasks of packed-attention.cc do with vectors: products, exponentials, their gradients, and the layouts that these read.
//
// All products are of one form, C = A . B with B's columns in vector lanes. A step of a product takes one 32-bit word of either side: a
// float32, or a pair of bfloat16 neighbours along the sum. Keys and values are laid out for it once per sequence: `across` has the words of 64
// rows side by side (for products over D), `along` has rows as they are, two bfloat16 rows interleaved (for products over rows).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention.h"
#include "simd.h"
#include "tiles.h"

namespace tinyllava {

constexpr int64_t kKeys = 64;    // key rows of a block
constexpr int64_t kChunk = 128;  // key rows whose scores a task holds at once

struct FloatWords {
  using Element = float;
  static constexpr int64_t each = 1;      // elements of a word
  static constexpr int64_t queries = 48;  // query rows of a task
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
  static constexpr int64_t queries = 48;
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

#if HAS_TILES
struct BFloat16Tiles : BFloat16Words {
  static constexpr int64_t queries = 64;
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
#if HAS_TILES
  if constexpr (std::is_same_v<Format, BFloat16Tiles>) return multiply_by_tiles(a, a_row, a_step, b, b_step, c, c_row, rows, width, steps, onto);
#endif
  Format::template run<Multiply<Format>>(a, a_row, a_step, b, b_step, c, c_row, rows, width / kLanes, steps, onto);
}

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
        const Floats second = Format::each == 2 && paired ? take(from + (r + 1) * row + d, D - d) : Floats{};
        store(to + r / Format::each * width + d, Format::word(take(from + r * row + d, D - d), second));
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
        put(to + r * to_row + d, value, D - d);
      }
    }
  }
};

template <class T>
struct Dot {
  static ALWAYS_INLINE void run(const T* a, int64_t a_row, const T* b, int64_t b_row, int64_t rows, int64_t D, float* out) {
    for (int64_t r = 0; r < rows; ++r) {
      Floats sums = {};
      for (int64_t d = 0; d < D; d += kLanes) sums += take(a + r * a_row + d, D - d) * take(b + r * b_row + d, D - d);
      out[r] = sum(sums);
    }
  }
};

}  // namespace tinyllava

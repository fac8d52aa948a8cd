#pragma once
// Products of bfloat16 by AMX: Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1, chapter 18. A tile is 16 rows of 64
// bytes. One instruction multiplies 16 rows of 16 words with 16 words of 16 columns, pairs along the sum in each word, and adds to 16 x 16 float32.
#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <cstdint>

#include "simd.h"

// GCC has its intrinsics since 11.
#if HAS_BFLOAT16_DOT && __GNUC__ >= 11
#define HAS_TILES 1
#include <immintrin.h>
#else
#define HAS_TILES 0
#endif

namespace tinyllava {

// Whether code for AMX can run; the system is asked for its registers once.
inline bool has_tiles() {
#if HAS_TILES
  static const bool found = has_bfloat16_dot() && __builtin_cpu_supports("amx-bf16") && at::cpu::init_amx();
  return found;
#else
  return false;
#endif
}

#if HAS_TILES
#define TILES_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

constexpr int64_t kTile = 16;

// Where the words of a matrix lie.
struct TileRows {
  const float* data;
  int64_t row;  // words from one row to the next
};

// to[c][r] = from[r][c] for `count` rows of 16 words and zeros behind them, in four steps, of which each swaps the blocks beside the diagonal in blocks of twice the size.
template <int Half>
TILES_TARGET ALWAYS_INLINE void swap_blocks(Ints* rows) {
  Ints lane;
  for (int i = 0; i < kTile; ++i) lane[i] = i;
  const Ints first = (lane & Half) == 0 ? lane : lane + (16 - Half), second = (lane & Half) == 0 ? lane + Half : lane + 16;
#pragma GCC unroll 16
  for (int r = 0; r < kTile; ++r) {
    if (r & Half) continue;
    const Ints upper = rows[r], lower = rows[r + Half];
    rows[r] = __builtin_shuffle(upper, lower, first);
    rows[r + Half] = __builtin_shuffle(upper, lower, second);
  }
}

TILES_TARGET inline void transpose_tile(const float* from, int64_t from_row, int64_t count, float* to) {
  Ints rows[kTile];
#pragma GCC unroll 16
  for (int r = 0; r < kTile; ++r) rows[r] = r < count ? (Ints)load(from + r * from_row) : Ints{};
  swap_blocks<8>(rows);
  swap_blocks<4>(rows);
  swap_blocks<2>(rows);
  swap_blocks<1>(rows);
#pragma GCC unroll 16
  for (int r = 0; r < kTile; ++r) store(to + r * kTile, (Floats)rows[r]);
}

// Tiles 0 to 3 are C's, two rows of two; 4 and 5 the rows of A, 6 and 7 the columns of B. `upper` and `lower` count the rows, `depth` the words of a sum.
TILES_TARGET inline void shape_tiles(int64_t upper, int64_t lower, int64_t depth) {
  struct {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  const auto shape = [&](int tile, int64_t rows, int64_t words) {
    config.rows[tile] = static_cast<uint8_t>(std::max<int64_t>(1, rows));
    config.bytes[tile] = static_cast<uint16_t>(words * sizeof(float));
  };
  for (const int tile : {0, 1}) shape(tile, upper, kTile);
  for (const int tile : {2, 3}) shape(tile, lower, kTile);
  shape(4, upper, depth);
  shape(5, lower, depth);
  for (const int tile : {6, 7}) shape(tile, depth, kTile);
  asm volatile("ldtilecfg %0" : : "m"(config));  // GCC's intrinsic tells it of the first bytes alone
}

// C's up to 32 rows (+)= A . B over `steps` words, which `depth` divides, for one or two tiles of columns.
template <bool Lower, bool Right>
TILES_TARGET inline void multiply_tiles(TileRows a, const float* b, int64_t b_step, float* c, int64_t c_row, int64_t steps, int64_t depth, bool onto) {
  const int64_t a_bytes = a.row * sizeof(float), b_bytes = b_step * sizeof(float), c_bytes = c_row * sizeof(float);
  if (onto) {
    _tile_loadd(0, c, c_bytes);
    if constexpr (Right) _tile_loadd(1, c + kTile, c_bytes);
    if constexpr (Lower) _tile_loadd(2, c + kTile * c_row, c_bytes);
    if constexpr (Lower && Right) _tile_loadd(3, c + kTile * c_row + kTile, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps; s += depth) {
    _tile_loadd(4, a.data + s, a_bytes);
    _tile_loadd(6, b + s * b_step, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Right) {
      _tile_loadd(7, b + s * b_step + kTile, b_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (Lower) {
      _tile_loadd(5, a.data + kTile * a.row + s, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (Lower && Right) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, c_bytes);
  if constexpr (Right) _tile_stored(1, c + kTile, c_bytes);
  if constexpr (Lower) _tile_stored(2, c + kTile * c_row, c_bytes);
  if constexpr (Lower && Right) _tile_stored(3, c + kTile * c_row + kTile, c_bytes);
}

// C[rows, width] (+)= A . B over `steps` words, of which those of A lie side by side (a_step 1) or its rows do (a_row 1). Every row takes the same
// sums, whatever rows are beside it.
TILES_TARGET inline void multiply_by_tiles(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c, int64_t c_row,
                                           int64_t rows, int64_t width, int64_t steps, bool onto) {
  alignas(64) float turned[2 * kTile * kTile];
  for (int64_t from = 0; from < steps;) {
    const int64_t depth = std::min(kTile, steps - from), span = a_step == 1 ? (steps - from) / depth * depth : depth;
    for (int64_t first = 0; first < rows; first += 2 * kTile) {
      const int64_t upper = std::min(kTile, rows - first), lower = std::min(kTile, rows - first - upper);
      TileRows words = {a + first * a_row + from, a_row};
      if (a_step != 1) {
        transpose_tile(a + from * a_step + first, a_step, depth, turned);
        if (lower > 0) transpose_tile(a + from * a_step + first + kTile, a_step, depth, turned + kTile * kTile);
        words = {turned, kTile};
      }
      shape_tiles(upper, lower, depth);
      const float* right = b + from * b_step;
      float* out = c + first * c_row;
      const auto both = lower > 0 ? multiply_tiles<true, true> : multiply_tiles<false, true>;
      const auto last = lower > 0 ? multiply_tiles<true, false> : multiply_tiles<false, false>;
      for (int64_t column = 0; column < width; column += 2 * kTile) {
        (width - column > kTile ? both : last)(words, right + column, b_step, out + column, c_row, span, depth, onto);
      }
    }
    from += span;
    onto = true;
  }
  _tile_release();
}
#endif

}  // namespace tinyllava

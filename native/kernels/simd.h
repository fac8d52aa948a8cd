#pragma once
// Portable SIMD: GCC/Clang vector types, compiled once for every instruction set and chosen at run time by PyTorch's own capability check,
// so that ATEN_CPU_CAPABILITY moves these kernels together with ATen's.
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

// GCC has it since 12.
#define HAS_SHUFFLEVECTOR __has_builtin(__builtin_shufflevector)
#define ALWAYS_INLINE inline __attribute__((always_inline))
// AVX512_BF16 multiplies and adds pairs, through assembly: an intrinsic cannot be inlined into code that is compiled for several targets. Clang's
// assembly takes no vector that the target of the whole file lacks.
#if defined(__x86_64__) && !defined(__clang__)
#define HAS_BFLOAT16_DOT 1
#else
#define HAS_BFLOAT16_DOT 0
#endif

namespace tinyllava {

constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(32)));

ALWAYS_INLINE Floats broadcast(float value) { return value - Floats{}; }

ALWAYS_INLINE Floats load(const float* from) {
  Floats out;
  std::memcpy(&out, from, sizeof(out));
  return out;
}

// A bfloat16 is the upper half of a float32.
ALWAYS_INLINE Floats load(const at::BFloat16* from) {
  Halves bits;
  std::memcpy(&bits, from, sizeof(bits));
#if HAS_SHUFFLEVECTOR
  // Faster than converting, which GCC does in pieces.
  return (Floats)__builtin_shufflevector(Halves{}, bits, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                         28, 13, 29, 14, 30, 15, 31);
#else
  return (Floats)(__builtin_convertvector(bits, Words) << 16);
#endif
}

ALWAYS_INLINE Ints load(const int16_t* from) {
  Shorts out;
  std::memcpy(&out, from, sizeof(out));
  return __builtin_convertvector(out, Ints);
}

// Keeps the lower halves.
ALWAYS_INLINE void store(int16_t* to, Ints value) {
  const Shorts halves = __builtin_convertvector(value, Shorts);
  std::memcpy(to, &halves, sizeof(halves));
}

ALWAYS_INLINE void store(float* to, Floats value) { std::memcpy(to, &value, sizeof(value)); }

// Rounds to nearest even; a NaN stays one.
ALWAYS_INLINE void store(at::BFloat16* to, Floats value) {
  const Words bits = (Words)value;
  const Words rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Words nan = (Words)(value != value);
  const Halves halves = __builtin_convertvector(((rounded & ~nan) | (nan & 0x7fc00000)) >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

template <class T>
ALWAYS_INLINE auto load_some(const T* from, int64_t count) {
  T padded[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

template <class T, class Vector>
ALWAYS_INLINE void store_some(T* to, Vector value, int64_t count) {
  T padded[kLanes];
  store(padded, value);
  for (int64_t i = 0; i < count; ++i) to[i] = padded[i];
}

// A whole vector where `count` allows it.
template <class T>
ALWAYS_INLINE auto take(const T* from, int64_t count) {
  return count >= kLanes ? load(from) : load_some(from, count);
}
template <class T, class Vector>
ALWAYS_INLINE void put(T* to, Vector value, int64_t count) {
  if (count >= kLanes) {
    store(to, value);
  } else {
    store_some(to, value, count);
  }
}

ALWAYS_INLINE Floats select(Ints mask, Floats yes, Floats no) { return (Floats)((mask & (Ints)yes) | (~mask & (Ints)no)); }
ALWAYS_INLINE Floats maximum(Floats a, Floats b) { return select(a > b, a, b); }
ALWAYS_INLINE Floats minimum(Floats a, Floats b) { return select(a < b, a, b); }

ALWAYS_INLINE float sum(Floats v) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef float Four __attribute__((vector_size(16)));
  Eight halves[2];
  std::memcpy(halves, &v, sizeof(v));
  const Eight eight = halves[0] + halves[1];
  Four quarters[2];
  std::memcpy(quarters, &eight, sizeof(eight));
  const Four four = quarters[0] + quarters[1];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Of every group of 2 * Half lanes of a, then of b, adds the two halves: one step of summing many vectors at once.
template <int Half, bool Upper>
constexpr int fold_lane(int lane) {
  return lane % 8 / Half * 2 * Half + lane % Half + (Upper ? Half : 0) + (lane < 8 ? 0 : 16);
}
template <int Half, int... Lane>
ALWAYS_INLINE Floats fold(Floats a, Floats b, std::integer_sequence<int, Lane...>) {
#if HAS_SHUFFLEVECTOR
  return __builtin_shufflevector(a, b, fold_lane<Half, false>(Lane)...) + __builtin_shufflevector(a, b, fold_lane<Half, true>(Lane)...);
#else
  return __builtin_shuffle(a, b, Ints{fold_lane<Half, false>(Lane)...}) + __builtin_shuffle(a, b, Ints{fold_lane<Half, true>(Lane)...});
#endif
}
template <int Half>
ALWAYS_INLINE Floats fold(Floats a, Floats b) {
  return fold<Half>(a, b, std::make_integer_sequence<int, kLanes>());
}

// Lane i is the sum of vectors[i]; the lanes from Count on mean nothing.
template <int Count>
ALWAYS_INLINE Floats sums_of(const Floats* vectors) {
  static_assert(Count <= 8);
  if constexpr (Count == 1) return broadcast(sum(vectors[0]));
  const auto at = [&](int i) __attribute__((always_inline)) { return i < Count ? vectors[i] : Floats{}; };
  const Floats four = fold<4>(fold<8>(at(0), at(1)), fold<8>(at(2), at(3)));
  const Floats others = Count > 4 ? fold<4>(fold<8>(at(4), at(5)), fold<8>(at(6), at(7))) : four;
  const Floats eight = fold<2>(four, others);
  return fold<1>(eight, eight);
}

ALWAYS_INLINE float largest(Floats v) {
  float out = v[0];
  for (int64_t i = 1; i < kLanes; ++i) out = v[i] > out ? v[i] : out;
  return out;
}

// Cephes' expf: 2 units in the last place; 0 below -87.3, clamped above 88.4.
ALWAYS_INLINE Floats exponential(Floats x) {
  const Ints underflow = x < -87.33654f;
  x = minimum(maximum(x, broadcast(-87.33654f)), broadcast(88.37626f));
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const Floats shifted = x * 1.44269504f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Floats scale = (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
  return select(underflow, Floats{}, p * scale);
}

enum class Isa { portable, avx2, avx512 };

inline Isa isa() {
  static const Isa found = [] {
    const std::string name = at::get_cpu_capability();
    return name == "AVX512" ? Isa::avx512 : name == "AVX2" ? Isa::avx2 : Isa::portable;
  }();
  return found;
}

// Whether code for AVX512_BF16 can run.
inline bool has_bfloat16_dot() {
#if HAS_BFLOAT16_DOT
  static const bool found = isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
  return found;
#else
  return false;
#endif
}

#if defined(__x86_64__)
template <class Kernel, class... Args>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))) void run_avx512(Args... args) {
  Kernel::run(args...);
}
template <class Kernel, class... Args>
__attribute__((target("avx2,fma"))) void run_avx2(Args... args) {
  Kernel::run(args...);
}
#endif

// Runs Kernel::run (static, always inline, no lambdas inside) compiled for the instruction set of this machine.
template <class Kernel, class... Args>
inline void dispatch(Args... args) {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return run_avx512<Kernel>(args...);
  if (isa() == Isa::avx2) return run_avx2<Kernel>(args...);
#endif
  Kernel::run(args...);
}

}  // namespace tinyllava

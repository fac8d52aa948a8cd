// The sum of the squares of many bfloat16 tensors, for the norm of gradients: ATen's goes through them one value at a time.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

struct SquareSum {
  static ALWAYS_INLINE void run(const at::BFloat16* from, int64_t begin, int64_t end, double* total) {
    Floats sums[4] = {};
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) {
        const Floats x = load(from + i + j * kLanes);
        sums[j] += x * x;
      }
    }
    for (; i < end; i += kLanes) {
      const Floats x = take(from + i, end - i);
      sums[0] += x * x;
    }
    *total = sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
};

// Blocks are the same whatever the number of threads, so that the sum is too.
constexpr int64_t kBlock = 1 << 16;

double square_sum(const at::Tensor& x) {
  if (x.scalar_type() != at::kBFloat16 || !x.device().is_cpu() || !x.is_contiguous()) {
    const at::Tensor norm = at::linalg_vector_norm(x, 2, std::nullopt, false, at::kFloat);
    return norm.item<double>() * norm.item<double>();
  }
  const int64_t blocks = (x.numel() + kBlock - 1) / kBlock;
  std::vector<double> totals(blocks);
  const at::BFloat16* from = x.const_data_ptr<at::BFloat16>();
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      dispatch<SquareSum>(from, block * kBlock, std::min(x.numel(), (block + 1) * kBlock), &totals[block]);
    }
  });
  double total = 0;
  for (const double part : totals) total += part;
  return total;
}

double square_sums(at::TensorList tensors) {
  const at::NoGradGuard without;
  double total = 0;
  for (const at::Tensor& x : tensors) total += square_sum(x);
  return total;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) { m.def("square_sum(Tensor[] tensors) -> float", square_sums); }

}  // namespace tinyllava

// The language-model head and its cross-entropy without ever holding all logits: rows go through in chunks, and the gradients are computed with
// the logits at hand (as Liger does, arXiv:2410.10989). Dims: K rows, C width, V vocabulary.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "common.h"
#include "simd.h"

namespace tinyllava {
namespace {

// Cross-entropy of every row in `losses`; with Grad the logits are replaced by their gradient, softmax minus one at the label.
template <class T, bool Grad>
struct CrossEntropy {
  static ALWAYS_INLINE void run(T* logits, const int64_t* labels, double* losses, int64_t begin, int64_t end, int64_t V) {
    const int64_t whole = V / kLanes * kLanes, rest = V - whole;
    for (int64_t n = begin; n < end; ++n) {
      T* row = logits + n * V;
      Floats most_yet = broadcast(-std::numeric_limits<float>::infinity());
      for (int64_t i = 0; i < whole; i += kLanes) most_yet = maximum(load(row + i), most_yet);
      float most = largest(most_yet);
      for (int64_t i = whole; i < V; ++i) most = std::max(most, static_cast<float>(row[i]));
      const float labelled = row[labels[n]];
      Floats totals = {};
      for (int64_t i = 0; i < whole; i += kLanes) {
        const Floats e = exponential(load(row + i) - most);
        totals += e;
        // In float32 the exponentials are kept; in bfloat16 that would round them.
        if constexpr (Grad && std::is_same_v<T, float>) store(row + i, e);
      }
      float total = sum(totals);
      if (rest) {
        const Floats e = exponential(load_some(row + whole, rest) - most);
        for (int64_t i = 0; i < rest; ++i) total += e[i];
        if constexpr (Grad && std::is_same_v<T, float>) store_some(row + whole, e, rest);
      }
      losses[n] = std::log(static_cast<double>(total)) + most - labelled;
      if constexpr (Grad) {
        const float scale = 1.0f / total;
        const auto probability = [&](Floats value) __attribute__((always_inline)) {
          return std::is_same_v<T, float> ? value * scale : exponential(value - most) * scale;
        };
        for (int64_t i = 0; i < whole; i += kLanes) store(row + i, probability(load(row + i)));
        if (rest) store_some(row + whole, probability(load_some(row + whole, rest)), rest);
        row[labels[n]] = static_cast<T>(std::exp(labelled - most) * scale - 1.0f);
      }
    }
  }
};

// Sum of the cross-entropy of a chunk; `logits` becomes the gradient when one is wanted.
at::Tensor chunk_loss(at::Tensor& logits, const at::Tensor& labels, bool grad) {
  const int64_t rows = logits.size(0), V = logits.size(1);
  if (!fits_kernel(logits)) {
    const at::Tensor floats = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat), index = labels.unsqueeze(1);
    const at::Tensor logs = at::log_softmax(floats, 1);
    if (grad) logits = at::exp(logs).scatter_add(1, index, at::full_like(index, -1, logs.options())).to(logits.scalar_type());
    return -logs.gather(1, index).sum();
  }
  std::vector<double> losses(rows);
  with_type(logits.scalar_type(), [&]<class T>(T) {
    T* row = logits.mutable_data_ptr<T>();
    const int64_t* label = labels.const_data_ptr<int64_t>();
    at::parallel_for(0, rows, grain(V), [&](int64_t begin, int64_t end) {
      if (grad) {
        dispatch<CrossEntropy<T, true>>(row, label, losses.data(), begin, end, V);
      } else {
        dispatch<CrossEntropy<T, false>>(row, label, losses.data(), begin, end, V);
      }
    });
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  return at::full({}, total, logits.options().dtype(at::kDouble));
}

// Puts logits [rows, V]^T . x [rows, C] into `sum` [V, C] or adds it, on CPUs some words at a time: products take a copy of what is transposed, and the
// whole would be there twice, in narrow dtypes three times.
void put_product(at::Tensor& sum, const at::Tensor& logits, const at::Tensor& x, bool add) {
  constexpr int64_t kNumbers = int64_t{1} << 21;
  const int64_t V = sum.size(0), words = sum.is_cpu() ? std::max<int64_t>(1, kNumbers / std::max<int64_t>(1, sum.size(1))) : V;
  for (int64_t first = 0; first < V; first += words) {
    const int64_t count = std::min(words, V - first);
    const at::Tensor part = product(logits.narrow(1, first, count).t(), x.t());
    at::Tensor place = sum.narrow(0, first, count);
    add ? place.add_(part) : place.copy_(part);
  }
}

struct Gradients {
  at::Tensor loss, hidden, weight, bias;
};

Gradients run(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& labels, int64_t chunk, bool want_hidden,
              bool want_weight, bool want_bias) {
  const int64_t K = hidden.size(0);
  const at::ScalarType wide = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Gradients out;
  out.loss = at::zeros({}, hidden.options().dtype(wide));
  if (want_hidden) out.hidden = at::empty(hidden.sizes(), hidden.options());
  if (want_bias) out.bias = at::zeros(bias.sizes(), bias.options().dtype(wide));
  // Narrow dtypes would round at every chunk.
  if (want_weight) out.weight = at::empty(weight.sizes(), K > chunk ? weight.options().dtype(wide) : weight.options());
  if (want_weight && K == 0) out.weight.zero_();
  for (int64_t first = 0; first < K; first += chunk) {
    const int64_t rows = std::min(chunk, K - first);
    const at::Tensor x = hidden.narrow(0, first, rows);
    at::Tensor logits = product(x, weight, bias);
    out.loss += chunk_loss(logits, labels.narrow(0, first, rows), want_hidden || want_weight || want_bias);
    if (want_hidden) {
      out.hidden.narrow(0, first, rows).copy_(product(logits, weight.t()));
    }
    if (want_weight) put_product(out.weight, logits, x, first > 0);
    if (want_bias) out.bias += logits.sum(0, false, wide);
  }
  if (want_weight) out.weight = out.weight.to(weight.scalar_type());
  if (want_bias) out.bias = out.bias.to(bias.scalar_type());
  return out;
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                            int64_t chunk, const std::optional<at::Tensor>& bias) {
    const at::Tensor offset = bias.value_or(at::Tensor());
    const bool want_bias = offset.defined() && offset.requires_grad();
    Gradients out = run(hidden, weight, offset, labels, chunk, hidden.requires_grad(), weight.requires_grad(), want_bias);
    ctx->save_for_backward({out.hidden, out.weight, out.bias});
    return out.loss;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("linear_cross_entropy");
    TORCH_CHECK(!ctx->saved_data.count("used"), "linear_cross_entropy: its gradients were given away by an earlier backward; compute the loss again");
    ctx->saved_data["used"] = true;
    auto saved = ctx->get_saved_variables();
    for (at::Tensor& gradient : saved) {
      if (gradient.defined()) gradient.mul_(grads[0]);
    }
    return {saved[0], saved[1], at::Tensor(), at::Tensor(), saved[2]};
  }
};

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                const at::Tensor& labels, int64_t chunk) {
  TORCH_CHECK(weight.dim() == 2, "linear_cross_entropy: expected weight [V, C], got ", sizes(weight));
  const int64_t V = weight.size(0), C = weight.size(1);
  TORCH_CHECK(hidden.dim() == 2 && hidden.size(1) == C, "linear_cross_entropy: expected hidden [K, C=", C, "], got ", sizes(hidden));
  const int64_t K = hidden.size(0);
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == K && labels.scalar_type() == at::kLong, "linear_cross_entropy: expected labels [K=", K,
              "] of int64, got ", sizes(labels), " of ", labels.dtype());
  TORCH_CHECK(chunk >= 1, "linear_cross_entropy: a chunk has at least one row, got ", chunk);
  TORCH_CHECK(weight.dtype() == hidden.dtype(), "linear_cross_entropy: hidden is ", hidden.dtype(), " but weight ", weight.dtype());
  const at::Tensor offset = bias.value_or(at::Tensor());
  TORCH_CHECK(!offset.defined() || (offset.dim() == 1 && offset.size(0) == V), "linear_cross_entropy: expected bias [V=", V, "], got ", sizes(offset));
  check_devices("linear_cross_entropy", hidden, weight, offset, labels);
  const at::Tensor index = labels.contiguous();
  if (index.device().is_cpu()) {
    for (int64_t i = 0; i < K; ++i) {
      const int64_t label = index.const_data_ptr<int64_t>()[i];
      TORCH_CHECK(label >= 0 && label < V, "linear_cross_entropy: label ", label, " of row ", i, " is outside the vocabulary of ", V);
    }
  }
  const at::Tensor rows = hidden.contiguous();
  if (needs_grad(hidden, weight) || (offset.defined() && needs_grad(offset))) return LinearCrossEntropy::apply(rows, weight, index, chunk, bias);
  return run(rows, weight, offset, index, chunk, false, false, false).loss;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def("linear_cross_entropy(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, int chunk) -> Tensor", linear_cross_entropy);
}

}  // namespace tinyllava

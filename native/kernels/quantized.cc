// A linear layer whose frozen weight is kept in four or eight bits and decoded when it is used, in the forward pass and again for the
// gradient of its input, so that no decoded weight outlives the call. NF4 with double quantisation: Dettmers et al. 2023, arXiv:2305.14314.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>
#include <cmath>

#include "common.h"

namespace tinyllava {
namespace {

constexpr int64_t kBlock = 64;   // values of a row that share a scale
constexpr int64_t kScales = 256;  // scales that share a factor

// Quantiles of the normal distribution with an exact zero, appendix E of the paper.
constexpr std::array<float, 16> kLevels = {-1.0f,
                                           -0.6961928009986877f,
                                           -0.5250730514526367f,
                                           -0.39491748809814453f,
                                           -0.28444138169288635f,
                                           -0.18477343022823334f,
                                           -0.09105003625154495f,
                                           0.0f,
                                           0.07958029955625534f,
                                           0.16093020141124725f,
                                           0.24611230194568634f,
                                           0.33791524171829224f,
                                           0.44070982933044434f,
                                           0.5626170039176941f,
                                           0.7229568362236023f,
                                           1.0f};

at::Tensor levels(const at::Tensor& like) { return at::tensor(at::ArrayRef<float>(kLevels.data(), kLevels.size()), at::kFloat).to(like.device()); }

// Values that lie between a level and the next, from which on the next is nearer.
const std::array<float, 15> kBetween = [] {
  std::array<float, 15> between;
  for (size_t i = 0; i < 15; ++i) between[i] = (kLevels[i] + kLevels[i + 1]) / 2;
  return between;
}();

void encode_rows(const float* x, uint8_t* codes, float* magnitudes, int64_t begin, int64_t end, int64_t columns) {
  const int64_t bytes = (columns + 1) / 2, blocks = (columns + kBlock - 1) / kBlock;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t from = block * kBlock, count = std::min(columns, from + kBlock) - from;
      const float* values = x + row * columns + from;
      float largest = 0;
      for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
      magnitudes[row * blocks + block] = largest;
      const float inverse = 1 / std::max(largest, 1e-30f);
      std::array<uint8_t, kBlock + 1> code = {};
      code[count] = 7;  // zero, beside the last of an odd row
      for (int64_t i = 0; i < count; ++i) {
        int level = 0;
        for (const float between : kBetween) level += values[i] * inverse > between;
        code[i] = static_cast<uint8_t>(level);
      }
      for (int64_t i = 0; i < count; i += 2) codes[row * bytes + (from + i) / 2] = static_cast<uint8_t>(code[i] | code[i + 1] << 4);
    }
  }
}

// Weight [O, I] to codes [O, ceil(I / 2)], the even column in the low half, and the largest magnitude of every block [O, ceil(I / 64)].
std::tuple<at::Tensor, at::Tensor> quantize_nf4(const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() == 2 && weight.is_floating_point(), "quantize_nf4: a weight [outputs, inputs] is expected, got ", sizes(weight));
  const int64_t O = weight.size(0), I = weight.size(1), blocks = (I + kBlock - 1) / kBlock;
  if (weight.is_cpu()) {
    const at::Tensor x = weight.detach().to(at::kFloat).contiguous();
    const at::Tensor codes = at::empty({O, (I + 1) / 2}, at::kByte), magnitudes = at::empty({O, blocks}, at::kFloat);
    const float* from = x.const_data_ptr<float>();
    uint8_t* to = codes.mutable_data_ptr<uint8_t>();
    float* by = magnitudes.mutable_data_ptr<float>();
    at::parallel_for(0, O, grain(I), [&](int64_t begin, int64_t end) { encode_rows(from, to, by, begin, end, I); });
    return {codes, magnitudes};
  }
  const at::Tensor padded = at::constant_pad_nd(weight.detach().to(at::kFloat), {0, blocks * kBlock - I}).view({O, blocks, kBlock});
  const at::Tensor absmax = padded.abs().amax(2);
  const at::Tensor normal = padded * absmax.clamp_min(1e-30).reciprocal().unsqueeze(2);
  const at::Tensor table = levels(weight);
  const at::Tensor between = (table.narrow(0, 0, 15) + table.narrow(0, 1, 15)) / 2;
  const at::Tensor codes = at::bucketize(normal, between, /*out_int32=*/true).to(at::kByte).view({O, blocks * kBlock}).narrow(1, 0, (I + 1) / 2 * 2);
  const at::Tensor pairs = codes.reshape({O, (I + 1) / 2, 2});
  return {pairs.select(2, 0).bitwise_or(pairs.select(2, 1).bitwise_left_shift(4)).contiguous(), absmax};
}

// Scales int8 [O, B] times the factor of their 256, plus their mean.
at::Tensor scales_of(const at::Tensor& scales, const at::Tensor& factors, const at::Tensor& mean) {
  const at::Tensor spread = factors.repeat_interleave(kScales).narrow(0, 0, scales.numel()).view(scales.sizes());
  return (scales.to(at::kFloat) * spread + mean).contiguous();
}

template <class T>
void decode_rows(const uint8_t* codes, const float* scales, T* out, int64_t begin, int64_t end, int64_t columns) {
  const int64_t bytes = (columns + 1) / 2, blocks = (columns + kBlock - 1) / kBlock;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const float scale = scales[row * blocks + block];
      std::array<T, 16> values;
      for (size_t i = 0; i < 16; ++i) values[i] = static_cast<T>(kLevels[i] * scale);
      const int64_t from = block * kBlock, until = std::min(columns, from + kBlock);
      const uint8_t* packed = codes + row * bytes + from / 2;
      T* to = out + row * columns + from;
      for (int64_t i = 0; i + 1 < until - from; i += 2, ++packed) {
        to[i] = values[*packed & 15];
        to[i + 1] = values[*packed >> 4];
      }
      if ((until - from) % 2) to[until - from - 1] = values[*packed & 15];
    }
  }
}

// NF4 where the codes are uint8, with scales, factors and mean as above; rows of int8 with a scale each where they are int8.
at::Tensor decode(const at::Tensor& codes, at::TensorList scales, int64_t columns, at::ScalarType dtype) {
  const int64_t O = codes.size(0);
  if (codes.scalar_type() == at::kChar) return (codes.to(at::kFloat) * scales[0].unsqueeze(1)).to(dtype);
  const at::Tensor absmax = scales_of(scales[0], scales[1], scales[2]);
  if (codes.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16)) {
    const at::Tensor out = at::empty({O, columns}, codes.options().dtype(dtype));
    with_type(dtype, [&]<class T>(T) {
      const uint8_t* from = codes.const_data_ptr<uint8_t>();
      const float* by = absmax.const_data_ptr<float>();
      T* to = out.mutable_data_ptr<T>();
      at::parallel_for(0, O, grain(columns), [&](int64_t begin, int64_t end) { decode_rows<T>(from, by, to, begin, end, columns); });
    });
    return out;
  }
  const at::Tensor pairs = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, 2).view({O, -1}).narrow(1, 0, columns);
  const at::Tensor values = levels(codes).index_select(0, pairs.reshape({-1}).to(at::kInt)).view({O, columns});
  return (values * absmax.repeat_interleave(kBlock, 1).narrow(1, 0, columns)).to(dtype);
}

void check(const char* name, const at::Tensor& codes, at::TensorList scales, int64_t columns) {
  const bool nf4 = codes.scalar_type() == at::kByte;
  TORCH_CHECK(codes.dim() == 2 && (nf4 || codes.scalar_type() == at::kChar), name, ": codes are [outputs, bytes] in uint8 or int8, got ", sizes(codes));
  TORCH_CHECK(codes.is_contiguous() && columns > 0 && codes.size(1) == (nf4 ? (columns + 1) / 2 : columns), name, ": ", columns, " inputs, but codes ",
              sizes(codes));
  TORCH_CHECK(scales.size() == (nf4 ? 3 : 1), name, ": ", scales.size(), " tensors of scales");
  const int64_t O = codes.size(0), blocks = (columns + kBlock - 1) / kBlock;
  if (nf4) {
    TORCH_CHECK(scales[0].scalar_type() == at::kChar && scales[0].sizes() == at::IntArrayRef({O, blocks}), name, ": scales are int8 [", O, ", ", blocks,
                "], got ", sizes(scales[0]));
    TORCH_CHECK(scales[1].scalar_type() == at::kFloat && scales[1].sizes() == at::IntArrayRef({(O * blocks + kScales - 1) / kScales}), name,
                ": one float32 factor for 256 scales is expected, got ", sizes(scales[1]));
    TORCH_CHECK(scales[2].scalar_type() == at::kFloat && scales[2].dim() == 0, name, ": the mean of the scales is one float32");
  } else {
    TORCH_CHECK(scales[0].scalar_type() == at::kFloat && scales[0].sizes() == at::IntArrayRef({O}), name, ": one float32 scale for each of ", O,
                " rows is expected, got ", sizes(scales[0]));
  }
  for (const at::Tensor& scale : scales) check_devices(name, codes, scale);
}

struct QuantizedLinear : torch::autograd::Function<QuantizedLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& codes, std::vector<at::Tensor> scales,
                            const std::optional<at::Tensor>& bias) {
    const at::Tensor weight = decode(codes, scales, x.size(-1), x.scalar_type());
    torch::autograd::variable_list saved = {codes};
    saved.insert(saved.end(), scales.begin(), scales.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["columns"] = x.size(-1);
    return at::linear(x, weight, bias);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    no_second_derivative("quantized_linear");
    const auto saved = ctx->get_saved_variables();
    const std::vector<at::Tensor> scales(saved.begin() + 1, saved.end());
    const at::Tensor& grad = grads[0];
    const at::Tensor dx = at::matmul(grad, decode(saved[0], scales, ctx->saved_data["columns"].toInt(), grad.scalar_type()));
    // One for each tensor that forward took, those of the list included.
    torch::autograd::variable_list out(saved.size() + 2);
    out[0] = dx;
    return out;
  }
};

at::Tensor dequantize(const at::Tensor& codes, at::TensorList scales, int64_t columns) {
  check("dequantize", codes, scales, columns);
  return decode(codes, scales, columns, at::kFloat);
}

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& codes, at::TensorList scales, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.dim() > 0 && x.is_floating_point(), "quantized_linear: x is [..., inputs], got ", sizes(x));
  check("quantized_linear", codes, scales, x.size(-1));
  check_devices("quantized_linear", x, codes);
  const at::Tensor added = bias.value_or(at::Tensor());
  TORCH_CHECK(!added.defined() || (added.sizes() == at::IntArrayRef({codes.size(0)}) && !added.requires_grad()),
              "quantized_linear: the bias is one frozen number for each of ", codes.size(0), " outputs");
  if (!needs_grad(x)) return at::linear(x, decode(codes, scales, x.size(-1), x.scalar_type()), added);
  return QuantizedLinear::apply(x, codes, scales.vec(), bias);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def("quantize_nf4(Tensor weight) -> (Tensor, Tensor)", quantize_nf4);
  m.def("dequantize(Tensor codes, Tensor[] scales, int columns) -> Tensor", dequantize);
  m.def("quantized_linear(Tensor x, Tensor codes, Tensor[] scales, Tensor? bias) -> Tensor", quantized_linear);
}

}  // namespace tinyllava

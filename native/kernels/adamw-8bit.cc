// AdamW whose moments are kept in eight bits (Dettmers et al. 2022, arXiv:2110.02861): in blocks of 256 each is a share of the block's largest
// magnitude, by the nearest of 256 shares that are dense at small ones ("dynamic tree quantization"). A step decodes a block, is done in float32
// and encodes it again. One thing differs from bitsandbytes: a square that is not zero stays above zero, so that rounding never makes a step larger.
#include "adamw.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <array>
#include <map>
#include <mutex>

namespace tinyllava {
namespace {

constexpr int64_t kBlock = 256;

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// The 256 shares in rising order, and what is needed to find the nearest one to a number x in [-1, 1]: the numbers with the same upper 16 bits lie
// in at most two cells, so that a look at the border between them tells which.
struct Code {
  static constexpr float kLeast = 0x1p-23f;                 // nearer to 0 than to any other share
  static constexpr uint32_t kLow = 0x3400, kHigh = 0x3f80;  // upper bits of that and of 1
  static constexpr uint32_t kSpan = kHigh - kLow + 1;
  std::array<float, 256> shares, borders;   // a border is halfway to the next share; the last one is never crossed
  std::array<uint8_t, 2 * kSpan> first;     // by upper bits, positive numbers before negative ones: the cell of the smallest number

  explicit Code(bool with_sign) {
    int64_t at = 0;
    shares[at++] = 0;
    shares[at++] = 1;
    // For each power of ten twice as many as for the one below, in the middle of equal pieces of [0.1, 1]: 1 to 64 with either sign, or 2 to 128.
    for (int64_t power = 0; power < 7; ++power) {
      const int64_t pieces = (with_sign ? 1 : 2) << power;
      for (int64_t i = 0; i < pieces; ++i) {
        const double share = (0.1 + 0.9 * (i + 0.5) / pieces) * std::pow(10.0, power - 6);
        shares[at++] = static_cast<float>(share);
        if (with_sign) shares[at++] = static_cast<float>(-share);
      }
    }
    std::sort(shares.begin(), shares.end());
    for (int64_t i = 0; i < 255; ++i) borders[i] = (shares[i] + shares[i + 1]) / 2;
    borders[255] = std::numeric_limits<float>::infinity();
    if (!with_sign) borders[0] = 0;
    for (uint32_t i = 0; i < kSpan; ++i) {
      const uint32_t least = i == 0 ? 0 : (kLow + i) << 16;
      first[i] = cell(from_bits(least));
      first[kSpan + i] = cell(from_bits(0x8000ffffU | ((kLow + i) << 16)));
    }
  }

  uint8_t cell(float x) const { return static_cast<uint8_t>(std::lower_bound(borders.begin(), borders.end(), x) - borders.begin()); }
};

const Code& signed_code() {
  static const Code code(true);
  return code;
}
const Code& unsigned_code() {
  static const Code code(false);
  return code;
}

ALWAYS_INLINE Floats absolute(Floats x) { return (Floats)((Words)x & 0x7fffffffU); }

ALWAYS_INLINE void decode(float* to, const uint8_t* from, float scale, int64_t count, const Code& code) {
  for (int64_t i = 0; i < count; ++i) to[i] = code.shares[from[i]] * scale;
}

ALWAYS_INLINE void encode(uint8_t* to, const float* from, float largest, int64_t count, const Code& code) {
  alignas(64) float shares[kBlock];
  alignas(64) uint32_t places[kBlock];
  const Floats by = broadcast(largest == 0 ? 1 : largest);
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const Floats share = load(from + i) / by;
    const Words bits = (Words)share;
    const Floats clamped = minimum(maximum(absolute(share), broadcast(Code::kLeast)), broadcast(1));
    const Words place = ((Words)clamped >> 16) - Code::kLow + (bits >> 31) * Code::kSpan;
    store(shares + i, share);
    std::memcpy(places + i, &place, sizeof(place));
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t cell = code.first[places[i]];
    to[i] = static_cast<uint8_t>(cell + (shares[i] > code.borders[cell] ? 1 : 0));
  }
}

struct Moments {
  uint8_t* mean;
  float* mean_scale;
  uint8_t* square;
  float* square_scale;
};

template <class Place, class G>
struct Blocks {
  static ALWAYS_INLINE void run(const Place* place, const G* gradient, const Moments* moments, int64_t first, int64_t last, int64_t total,
                                const AdamWSettings* settings, const Code* signs, const Code* plain) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kBlock, count = std::min(kBlock, total - begin);
      alignas(64) float mean[kBlock] = {}, square[kBlock] = {};
      decode(mean, moments->mean + begin, moments->mean_scale[block], count, *signs);
      decode(square, moments->square + begin, moments->square_scale[block], count, *plain);
      Floats most_mean = {}, most_square = {};
      for (int64_t i = 0; i < count; i += kLanes) {
        const int64_t left = count - i;
        const Moved out = moved(place->at(begin + i, left), take(gradient + begin + i, left), load(mean + i), load(square + i), *settings);
        place->set(begin + i, out.weight, left, settings->noise);
        store(mean + i, out.mean);
        store(square + i, out.square);
        most_mean = maximum(most_mean, absolute(out.mean));
        most_square = maximum(most_square, out.square);
      }
      const float mean_scale = largest(most_mean), square_scale = largest(most_square);
      moments->mean_scale[block] = mean_scale;
      moments->square_scale[block] = square_scale;
      encode(moments->mean + begin, mean, mean_scale, count, *signs);
      encode(moments->square + begin, square, square_scale, count, *plain);
    }
  }
};

// The same in ATen's operators, for other layouts, devices and dtypes.
struct CodeTensors {
  at::Tensor shares, borders;
};

const CodeTensors& code_tensors(bool with_sign, const at::Device& device) {
  static std::mutex mutex;
  static auto& known = *new std::map<std::pair<bool, std::string>, CodeTensors>();  // never freed: a device may be gone before
  const std::lock_guard lock(mutex);
  CodeTensors& found = known[{with_sign, device.str()}];
  if (!found.shares.defined()) {
    const Code& code = with_sign ? signed_code() : unsigned_code();
    const auto made = [&](const std::array<float, 256>& values) {
      return at::tensor(at::ArrayRef<float>(values.data(), values.size()), at::TensorOptions(at::kFloat)).to(device);
    };
    found = {made(code.shares), made(code.borders)};
  }
  return found;
}

// [blocks, 256] float32.
at::Tensor decoded(const at::Tensor& codes, const at::Tensor& scale, const CodeTensors& code) {
  const at::Tensor flat = at::constant_pad_nd(codes.reshape(-1), {0, scale.numel() * kBlock - codes.numel()});
  return code.shares.index_select(0, flat.to(at::kInt)).view({-1, kBlock}) * scale.unsqueeze(1);
}

void encode_into(const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& values, const CodeTensors& code) {
  const at::Tensor most = values.abs().amax(1);
  const at::Tensor shares = values / at::where(most == 0, at::ones_like(most), most).unsqueeze(1);
  codes.copy_(at::bucketize(shares, code.borders, true).view(-1).slice(0, 0, codes.numel()).view(codes.sizes()));
  scale.copy_(most);
}

void composed(const Weight& place, const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& mean_scale, const at::Tensor& square,
              const at::Tensor& square_scale, const AdamWSettings& s) {
  const CodeTensors &signs = code_tensors(true, mean.device()), &plain = code_tensors(false, mean.device());
  const auto in_blocks = [&](const at::Tensor& x) {
    return at::constant_pad_nd(x.to(at::kFloat).reshape(-1), {0, mean_scale.numel() * kBlock - x.numel()}).view({-1, kBlock});
  };
  const at::Tensor g = in_blocks(gradient) * s.scale;
  const at::Tensor m = decoded(mean, mean_scale, signs).lerp(g, s.blend1);
  const at::Tensor v = decoded(square, square_scale, plain) * s.beta2 + g * g * s.blend2;
  const at::Tensor step = (m / (v.sqrt() / s.root + s.eps)).view(-1).slice(0, 0, mean.numel()).view(mean.sizes());
  const at::Tensor weight = place.value();
  place.set(weight - weight * s.decay - s.step_size * step, s.noise);
  encode_into(mean, mean_scale, m, signs);
  encode_into(square, square_scale, v, plain);
}

constexpr int64_t kWorthwhile = 16384;

void adamw_8bit_(const at::Tensor& parameter, const std::optional<at::Tensor>& master, const std::optional<at::Tensor>& compensation,
                 const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& mean_scale, const at::Tensor& square,
                 const at::Tensor& square_scale, double learning_rate, double beta1, double beta2, double eps, double weight_decay, int64_t step,
                 double scale, int64_t noise) {
  const Weight weight{parameter, master.value_or(at::Tensor()), compensation.value_or(at::Tensor())};
  const int64_t count = parameter.numel(), blocks = (count + kBlock - 1) / kBlock;
  TORCH_CHECK(parameter.sizes() == gradient.sizes() && parameter.sizes() == mean.sizes() && parameter.sizes() == square.sizes(),
              "adamw_8bit_: the parameter is ", sizes(parameter), ", its gradient ", sizes(gradient), ", its moments ", sizes(mean), " and ",
              sizes(square));
  TORCH_CHECK(mean.scalar_type() == at::kByte && square.scalar_type() == at::kByte, "adamw_8bit_: moments are uint8");
  for (const at::Tensor& one : {mean_scale, square_scale}) {
    TORCH_CHECK(one.dim() == 1 && one.numel() == blocks && one.scalar_type() == at::kFloat && one.is_contiguous(), "adamw_8bit_: expected ", blocks,
                " scales in float32, got ", sizes(one), " in ", one.dtype());
  }
  weight.check("adamw_8bit_");
  TORCH_CHECK(weight.master.defined() || parameter.scalar_type() == at::kFloat || parameter.scalar_type() == at::kBFloat16,
              "adamw_8bit_: a parameter without master is float32 or bfloat16");
  check_devices("adamw_8bit_", parameter, weight.master, weight.compensation, gradient, mean, mean_scale, square, square_scale);
  const at::NoGradGuard without;
  const AdamWSettings settings = adamw_settings(learning_rate, beta1, beta2, eps, weight_decay, step, scale, noise);
  if (!weight.fits() || !mean.is_contiguous() || !square.is_contiguous() || !fits_kernel(gradient)) {
    return composed(weight, gradient, mean, mean_scale, square, square_scale, settings);
  }
  const at::Tensor g = gradient.contiguous();
  const Moments moments{mean.mutable_data_ptr<uint8_t>(), mean_scale.mutable_data_ptr<float>(), square.mutable_data_ptr<uint8_t>(),
                        square_scale.mutable_data_ptr<float>()};
  with_type(g.scalar_type(), [&]<class G>(G) {
    const G* from = g.const_data_ptr<G>();
    weight.with_place([&]<class Place>(Place place) {
      at::parallel_for(0, blocks, kWorthwhile / kBlock, [&](int64_t begin, int64_t end) {
        dispatch<Blocks<Place, G>>(&place, from, &moments, begin, end, count, &settings, &signed_code(), &unsigned_code());
      });
    });
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tinyllava, m) {
  m.def(
      "adamw_8bit_(Tensor(a!) parameter, Tensor(b!)? master, Tensor(c!)? compensation, Tensor gradient, Tensor(d!) mean, Tensor(e!) mean_scale, "
      "Tensor(f!) square, Tensor(g!) square_scale, float learning_rate, float beta1, float beta2, float eps, float weight_decay, int step, "
      "float scale, int noise) -> ()",
      adamw_8bit_);
}

}  // namespace tinyllava

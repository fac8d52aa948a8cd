import { cat, tensor } from './create.ts';
import { type BlockFormat, blockFormats } from './dequantize.ts';
import { native } from './native.ts';
import type { Tensor } from './tensor.ts';

/** How float32 values [B, values] become the bytes [B, bytes] of blocks, as uint8. Dims: B blocks. */
export type BlockEncoder = (values: Tensor) => Tensor;

/** Numbers [B, 1] to the bytes [B, 2] of each as float16. */
function halfBytes(x: Tensor): Tensor {
  const bytes = new Uint8Array(2 * x.numel);
  native.toData(x.cast('float16').handle, bytes);
  return tensor(bytes, { shape: [x.numel, 2] });
}

/** 1 / d, and 0 for a block of nothing else. */
function inverse(d: Tensor): Tensor {
  const zero = d.eq(0);
  return d.maskedFill(zero, 1).reciprocal().maskedFill(zero, 0);
}

/** The value of each block that is farthest from zero, with its sign: [B, 1]. */
const extreme = (x: Tensor): Tensor => x.gather(1, x.abs().argmax(1, { keepDim: true }));

const wholeNumbers = (x: Tensor, most: number): Tensor => x.floor().clamp({ max: most });

/** [B, 32] numbers below 16 to [B, 16]: the second half of a block stands in the high bits. */
function nibbles(q: Tensor): Tensor {
  const [low, high] = q.split([16, 16], 1) as [Tensor, Tensor];
  return low.add(high, { alpha: 16 }).cast('uint8');
}

/** [B, 32] numbers below 32 to their fifth bits, [B, 4], and the others, [B, 16]. */
function fiveBits(q: Tensor): [fifth: Tensor, rest: Tensor] {
  const fifth = q.div(16).floor();
  const weights = tensor([1, 2, 4, 8, 16, 32, 64, 128]);
  const packed = fifth.view(-1, 4, 8).mul(weights).sum([2]).cast('uint8');
  return [packed, nibbles(q.sub(fifth, { alpha: 16 }))];
}

/** Levels around zero: the farthest value takes the lowest one exactly. */
function symmetric(x: Tensor, half: number): { d: Tensor; q: Tensor } {
  const d = extreme(x).div(-half);
  return { d, q: wholeNumbers(x.mul(inverse(d)).add(half + 0.5), 2 * half - 1) };
}

/** Levels from the least to the largest value. */
function affine(x: Tensor, most: number): { d: Tensor; least: Tensor; q: Tensor } {
  const least = x.amin([1], { keepDim: true });
  const d = x.amax([1], { keepDim: true }).sub(least).div(most);
  return { d, least, q: wholeNumbers(x.sub(least).mul(inverse(d)).add(0.5), most) };
}

/** To the nearest whole number, halves away from zero, as C rounds and torch.round does not. */
function roundAway(x: Tensor): Tensor {
  const size = x.abs();
  const floor = size.floor();
  return floor.add(size.sub(floor).mul(2).floor()).mul(x.sign());
}

/** The block formats that can be written; their bytes equal those of llama.cpp's `gguf` package. */
export const quantizers = {
  Q4_0: {
    ...blockFormats.Q4_0,
    encode: (x) => {
      const { d, q } = symmetric(x, 8);
      return cat([halfBytes(d), nibbles(q)], 1);
    },
  },
  Q4_1: {
    ...blockFormats.Q4_1,
    encode: (x) => {
      const { d, least, q } = affine(x, 15);
      return cat([halfBytes(d), halfBytes(least), nibbles(q)], 1);
    },
  },
  Q5_0: {
    ...blockFormats.Q5_0,
    encode: (x) => {
      const { d, q } = symmetric(x, 16);
      return cat([halfBytes(d), ...fiveBits(q)], 1);
    },
  },
  Q5_1: {
    ...blockFormats.Q5_1,
    encode: (x) => {
      const { d, least, q } = affine(x, 31);
      return cat([halfBytes(d), halfBytes(least), ...fiveBits(q)], 1);
    },
  },
  Q8_0: {
    ...blockFormats.Q8_0,
    encode: (x) => {
      const d = x.abs().amax([1], { keepDim: true }).div(127);
      const q = roundAway(x.mul(inverse(d)));
      return cat([halfBytes(d), q.add(q.lt(0).cast('float32'), { alpha: 256 }).cast('uint8')], 1);
    },
  },
} satisfies Readonly<Partial<Record<keyof typeof blockFormats, BlockFormat & { readonly encode: BlockEncoder }>>>;

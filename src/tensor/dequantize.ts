import { cat, empty, stack } from './create.ts';
import type { DType } from './dtype.ts';
import type { MappedFile } from './mapped-file.ts';
import { Scope } from './scope.ts';
import type { Tensor } from './tensor.ts';

/** A block of a quantised tensor: how many values it holds in how many bytes. Dims: B blocks. */
export interface BlockFormat {
  readonly values: number;
  readonly bytes: number;
  /** Bytes [B, bytes] as uint8, and the same as float16 [B, bytes / 2], to values [B, values] in float32. */
  readonly decode: (bytes: Tensor, halves: Tensor) => Tensor;
}

/** Bits of whole numbers below 256 that are stored as floats, where no operator on integers is as quick. */
function bits(x: Tensor, from: number, count: number): Tensor {
  const shifted = from === 0 ? x : x.mul(2 ** -from).floor();
  return from + count === 8 ? shifted : shifted.sub(shifted.mul(2 ** -count).floor(), { alpha: 2 ** count });
}

const half = (halves: Tensor, at: number): Tensor => halves.narrow(1, at, 1).cast('float32'); // [B, 1]
const part = (bytes: Tensor, from: number, length: number): Tensor => bytes.narrow(1, from, length).cast('float32');

/** Bytes above 127 are the negative ones. */
function signed(x: Tensor): Tensor {
  return x.sub(bits(x, 7, 1), { alpha: 256 });
}

/** [B, n] to [B, 2n]: all low halves, then all high ones. */
const nibbles = (x: Tensor): Tensor => cat([bits(x, 0, 4), bits(x, 4, 4)], 1);

/** 16 bytes and the fifth bits of their halves, 32 in the 4 bytes before them: [B, 32]. */
function fiveBits(bytes: Tensor, from: number): Tensor {
  const high = part(bytes, from, 4);
  const fifth = stack(
    Array.from({ length: 8 }, (_, i) => bits(high, i, 1)),
    2,
  ).view(-1, 32);
  return nibbles(part(bytes, from + 4, 16)).add(fifth, { alpha: 16 });
}

/** [B, 12] to the scales and the minima [B, 8, 1] of a block's eight parts, six bits each. */
function scalesAndMinima(packed: Tensor): { scales: Tensor; minima: Tensor } {
  const [a, b, c] = packed.split([4, 4, 4], 1) as [Tensor, Tensor, Tensor];
  const scales = cat([bits(a, 0, 6), bits(c, 0, 4).add(bits(a, 6, 2), { alpha: 16 })], 1);
  const minima = cat([bits(b, 0, 6), bits(c, 4, 4).add(bits(b, 6, 2), { alpha: 16 })], 1);
  return { scales: scales.unsqueeze(2), minima: minima.unsqueeze(2) };
}

/** Four times 32 bytes, whose low and high halves are two parts of 32 values: [B, 8, 32]. */
function parts(bytes: Tensor, from: number): Tensor {
  const x = part(bytes, from, 128).view(-1, 4, 32);
  return stack([bits(x, 0, 4), bits(x, 4, 4)], 2).view(-1, 8, 32);
}

function scaleAndShift(values: Tensor, bytes: Tensor, halves: Tensor): Tensor {
  const { scales, minima } = scalesAndMinima(part(bytes, 4, 12));
  const [d, min] = [half(halves, 0).unsqueeze(2), half(halves, 1).unsqueeze(2)];
  return values.mul(scales.mul(d)).sub(minima.mul(min)).view(-1, 256);
}

/** The quantised types of GGUF that are read, as ggml-quants.c of llama.cpp lays them out. */
export const blockFormats = {
  Q4_0: {
    values: 32,
    bytes: 18,
    decode: (bytes, halves) =>
      nibbles(part(bytes, 2, 16))
        .sub(8)
        .mul(half(halves, 0)),
  },
  Q4_1: {
    values: 32,
    bytes: 20,
    decode: (bytes, halves) =>
      nibbles(part(bytes, 4, 16))
        .mul(half(halves, 0))
        .add(half(halves, 1)),
  },
  Q5_0: { values: 32, bytes: 22, decode: (bytes, halves) => fiveBits(bytes, 2).sub(16).mul(half(halves, 0)) },
  Q5_1: { values: 32, bytes: 24, decode: (bytes, halves) => fiveBits(bytes, 4).mul(half(halves, 0)).add(half(halves, 1)) },
  Q8_0: { values: 32, bytes: 34, decode: (bytes, halves) => signed(part(bytes, 2, 32)).mul(half(halves, 0)) },
  Q4_K: { values: 256, bytes: 144, decode: (bytes, halves) => scaleAndShift(parts(bytes, 16), bytes, halves) },
  Q5_K: {
    values: 256,
    bytes: 176,
    decode: (bytes, halves) => {
      const high = part(bytes, 16, 32);
      const fifth = stack(
        Array.from({ length: 8 }, (_, i) => bits(high, i, 1)),
        1,
      );
      return scaleAndShift(parts(bytes, 48).add(fifth, { alpha: 16 }), bytes, halves);
    },
  },
  Q6_K: {
    values: 256,
    bytes: 210,
    decode: (bytes, halves) => {
      const low = part(bytes, 0, 128).view(-1, 2, 64);
      const high = part(bytes, 128, 64).view(-1, 2, 32);
      const four = cat([bits(low, 0, 4), bits(low, 4, 4)], 2); // [B, 2, 128]
      const two = cat([bits(high, 0, 2), bits(high, 2, 2), bits(high, 4, 2), bits(high, 6, 2)], 2); // [B, 2, 128]
      const values = four.add(two, { alpha: 16 }).sub(32).view(-1, 16, 16);
      const scales = signed(part(bytes, 192, 16))
        .mul(half(halves, 104))
        .unsqueeze(2); // [B, 16, 1]
      return values.mul(scales).view(-1, 256);
    },
  },
} satisfies Readonly<Record<string, BlockFormat>>;

/** Values that are decoded at once: what lies between the steps then stays in the processor's cache. */
const VALUES_AT_ONCE = 1 << 18;

/** A quantised tensor of a mapped file as float32. */
export function dequantize(file: MappedFile, offset: number, shape: readonly number[], format: BlockFormat): Tensor {
  const { values, bytes, decode } = format;
  const blocks = shape.reduce((product, size) => product * size, 1) / values;
  using whole = new Scope();
  const into = empty([blocks, values]);
  const step = VALUES_AT_ONCE / values;
  for (let from = 0; from < blocks; from += step) {
    using _scope = new Scope();
    const count = Math.min(step, blocks - from);
    const at = offset + from * bytes;
    // Read, not mapped: pages of the file that were touched would stay with the process.
    const read = (shape: number[], dtype: DType): Tensor => file.tensor(at, shape, dtype, 'own');
    const decoded = decode(read([count, bytes], 'uint8'), read([count, bytes / 2], 'float16'));
    into.narrow(0, from, count).copy_(decoded);
  }
  return whole.keep(into.view(...shape));
}

import { ConfigError } from '../../errors.ts';
import { llama3Divisors } from '../../model/gguf.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Fields, float, text } from './settings.ts';

/** Rotary settings, as the language models' schemas have them. */
export type Rope = {
  readonly ropeTheta: number;
} & (
  | { readonly ropeType: 'default' }
  | { readonly ropeType: 'linear'; readonly factor: number }
  | {
      readonly ropeType: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    }
);

/** The base and the scaling of rotary positions. */
export function ropeFields(rope: Rope): Fields {
  return {
    'rope.freq_base': float(rope.ropeTheta),
    ...(rope.ropeType === 'linear' && { 'rope.scaling.type': text('linear'), 'rope.scaling.factor': float(rope.factor) }),
  };
}

/** What Llama 3 divides the frequencies of a head by, which files keep as a tensor; undefined without such scaling. */
export function ropeDivisors(rope: Rope, headSize: number): number[] | undefined {
  if (rope.ropeType !== 'llama3') return undefined;
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: original } = rope;
  return llama3Divisors({ factor, low, high, original }, rope.ropeTheta, headSize / 2);
}

/** Throws ConfigError for scaling that llama.cpp reads in Llama's files alone. */
export function plainRope(rope: Rope, type: string): Fields {
  if (rope.ropeType !== 'llama3') return ropeFields(rope);
  throw new ConfigError(`gguf: llama.cpp's ${type} has no rotary scaling of the type llama3`, { hint: 'convert it with --to hf instead' });
}

/** Rows [H · D, …] of queries or keys from halves of a head that pair up to neighbours that do, as llama.cpp rotates Llama's. */
export function pairRows(weight: Tensor, heads: number): Tensor {
  const [rows = 0, ...rest] = weight.shape;
  return weight
    .view(heads, 2, rows / heads / 2, ...rest)
    .transpose(1, 2)
    .reshape(rows, ...rest);
}

// Prints what optimizers remember of a parameter and how long a step takes, over 30 M parameters in matrices of 1024 x 1024, as a table.
//   npx tsx bench/optimizers.ts
import { randn } from '../src/tensor/create.ts';
import { type DType, dtypeBytes } from '../src/tensor/dtype.ts';
import { Generator } from '../src/tensor/random.ts';
import { AdamW } from '../src/train/adamw.ts';
import { AdamW8bit } from '../src/train/adamw-8bit.ts';
import type { OptimizerOptions } from '../src/train/optimizer.ts';
import { processor } from './machine.ts';
import { milliseconds } from './measure.ts';

const [matrices, side] = [30, 1024];
const generator = new Generator(1);
const made = (dtype: DType) =>
  new Map(Array.from({ length: matrices }, (_, i) => [`weight.${i}`, randn([side, side], { generator }).cast(dtype)] as const));

/** Bytes beside a parameter and its gradient, and milliseconds of a step. */
function measure(Kind: typeof AdamW | typeof AdamW8bit, dtype: DType, options: OptimizerOptions): [bytes: number, ms: number] {
  const parameters = made(dtype);
  const gradients = made(dtype);
  for (const [name, parameter] of parameters) parameter.requiresGrad_().grad = gradients.get(name);
  const optimizer = new Kind([{ parameters, learningRate: 1e-4, weightDecay: 0.1 }], { betas: [0.9, 0.999], eps: 1e-8, ...options });
  const remembered = [...optimizer.snapshot()].filter(([name]) => !name.startsWith('weights.') && !name.endsWith('.steps'));
  const bytes = remembered.reduce((sum, [, tensor]) => sum + tensor.numel * dtypeBytes(tensor.dtype), 0);
  const ms = milliseconds(() => optimizer.step(1), { times: 15, warmup: 3 });
  optimizer.free();
  for (const tensor of [...parameters.values(), ...gradients.values()]) tensor.free();
  return [bytes / (matrices * side * side), ms];
}

console.log(`${processor().name}\n\n| weights | AdamW: bytes, ms | in eight bits: bytes, ms |\n| --- | --- | --- |`);
const kinds: [string, DType, () => OptimizerOptions][] = [
  ['float32', 'float32', () => ({})],
  ['bfloat16', 'bfloat16', () => ({ masters: made('int16') })],
  ['bfloat16-pure', 'bfloat16', () => ({})],
  ['bfloat16-pure, kahan', 'bfloat16', () => ({ rounding: 'kahan' })],
];
for (const [name, dtype, options] of kinds) {
  const cells = [AdamW, AdamW8bit].map((Kind) => {
    const [bytes, ms] = measure(Kind, dtype, options());
    return `${bytes.toFixed(2)}, ${ms.toFixed(0)}`;
  });
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}

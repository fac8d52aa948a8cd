import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { randn } from '../../src/tensor/create.ts';
import { memory } from '../../src/tensor/device.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { gelu, linear, rmsNorm, sigmoidUnit, swiglu } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const generator = new Generator(5);
const leaf = (shape: readonly number[], dtype: DType): Tensor => randn(shape, { generator }).cast(dtype).requiresGrad_();

// Large enough for every way in which a product is computed, and with a width that fills no vector.
const shapes = [
  [7, 37, 5],
  [520, 151, 64],
] as const;
const sources = {
  'an RMS norm': (leaves: readonly Tensor[]) => rmsNorm(leaves[0] as Tensor, leaves[1] as Tensor, 1e-6),
  'a SwiGLU': (leaves: readonly Tensor[]) => swiglu(leaves[0] as Tensor, leaves[2] as Tensor),
  'a gated quick GELU': (leaves: readonly Tensor[]) => sigmoidUnit(leaves[0] as Tensor, 'quick_gelu', leaves[2]),
  'a GELU by tanh': (leaves: readonly Tensor[]) => gelu(leaves[0] as Tensor, 'tanh'),
};

test.each(
  Object.keys(sources).flatMap((source) =>
    (['float32', 'bfloat16'] as const).flatMap((dtype) => shapes.map((shape) => ({ source, dtype, shape }))),
  ),
)('behind $source in $dtype of $shape it learns as if it had kept its input', ({ source, dtype, shape: [rows, width, out] }) => {
  using _scope = new Scope();
  const leaves = [
    leaf([rows, width], dtype),
    leaf([width], dtype),
    leaf([rows, width], dtype),
    leaf([out, width], dtype),
    leaf([out], dtype),
  ];
  const weights = randn([rows, out], { generator }).cast(dtype);
  const gradients = (through: (x: Tensor) => Tensor): Tensor[] => {
    const x = through(sources[source as keyof typeof sources](leaves));
    linear(x, leaves[3] as Tensor, leaves[4])
      .mul(weights)
      .sum()
      .backward();
    return leaves.flatMap((tensor) => {
      const gradient = tensor.grad;
      tensor.grad = undefined;
      return gradient ? [gradient] : [];
    });
  };
  const again = gradients((x) => x);
  const kept = gradients((x) => x.mul(1));
  expect(again).toHaveLength(source === 'a GELU by tanh' ? 3 : 4);
  for (const [i, gradient] of again.entries()) expect(gradient).toMatchTensor(kept[i] as Tensor, { atol: 0 });
});

test.each([
  ['one that is frozen keeps no input', { learns: false, direct: false, kept: 0 }],
  ['one behind a norm keeps no input of its own', { learns: true, direct: true, kept: 0 }],
  ['one behind something else keeps it', { learns: true, direct: false, kept: 1 }],
])('%s', (_, { learns, direct, kept }) => {
  // In a process of its own, whose allocator no other test has told to keep what is freed.
  const argv = ['--import', 'tsx', join(import.meta.dirname, 'kept.ts'), JSON.stringify([learns, direct])];
  const found = JSON.parse(spawnSync(process.execPath, argv, { encoding: 'utf8' }).stdout) as { kept: number; shape: number[] };
  expect(found.kept).toBeCloseTo(kept, 0.5);
  expect(found.shape).toEqual([1 << 17, 256]);
});

test.each(Object.entries(sources))('it takes what %s gave also when that was gone back through', (_, source) => {
  using _scope = new Scope();
  const leaves = [leaf([3, 8], 'float32'), leaf([8], 'float32'), leaf([3, 8], 'float32'), leaf([4, 8], 'float32')];
  const [x, weight] = [source(leaves), leaves[3] as Tensor];
  const first = linear(x, weight);
  first.sum().backward();
  expect(linear(x, weight)).toMatchTensor(first, { atol: 0 });
});

test('products of ever new shapes keep no memory', () => {
  const [x, weight] = [randn([900, 128]), randn([128, 128])] as const;
  const multiply = (rows: number): void => {
    using _scope = new Scope();
    linear(x.narrow(0, 0, rows), weight);
  };
  for (let rows = 300; rows < 560; rows++) multiply(rows);
  const before = memory().rssBytes;
  for (let rows = 560; rows < 860; rows++) multiply(rows);
  expect(memory().rssBytes - before).toBeLessThan(50e6);
});

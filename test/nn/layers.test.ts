import { expect, test } from 'vitest';
import { type ActivationName, activations } from '../../src/nn/activation.ts';
import { Conv2d } from '../../src/nn/conv.ts';
import { Embedding, ScaledEmbedding } from '../../src/nn/embedding.ts';
import { runLayers } from '../../src/nn/layers.ts';
import { Linear } from '../../src/nn/linear.ts';
import { LayerNorm, OffsetRmsNorm, RmsNorm } from '../../src/nn/norm.ts';
import { arange, full, stack, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import '../matchers.ts';

test('linear maps the last dimension', () => {
  const linear = new Linear(2, 3).initialize(new Generator(0));
  linear.weight.copy_(
    tensor([
      [1, 0],
      [0, 1],
      [1, 1],
    ]),
  );
  linear.bias?.copy_(tensor([10, 20, 30]));
  expect(linear.forward(tensor([[[1, 2]]]))).toMatchTensor(tensor([[[11, 22, 33]]]));
});

test('embedding picks rows', () => {
  const embedding = new Embedding(3, 2).initialize(new Generator(0));
  embedding.weight.copy_(
    tensor([
      [0, 1],
      [2, 3],
      [4, 5],
    ]),
  );
  expect(embedding.forward(tensor(BigInt64Array.of(2n, 0n)))).toMatchTensor(
    tensor([
      [4, 5],
      [0, 1],
    ]),
  );
});

test('layer norm and RMS norm', () => {
  const x = tensor([[1, 2, 3, 6]]);
  const [mean, deviation, root] = [3, Math.sqrt(3.5 + 1e-5), Math.sqrt(12.5 + 1e-6)];
  const layer = new LayerNorm(4).initialize(new Generator(0));
  layer.bias?.fill_(1);
  expect(layer.forward(x)).toMatchTensor([1, 2, 3, 6].map((value) => (value - mean) / deviation + 1));
  const rms = new RmsNorm(4).initialize(new Generator(0));
  rms.weight.fill_(2);
  expect(rms.forward(x)).toMatchTensor([1, 2, 3, 6].map((value) => (2 * value) / root));
});

test('the scale of an embedding is rounded to the dtype of its rows before it is used', () => {
  const scaled = new ScaledEmbedding(5, 4, { scale: Math.sqrt(3072) }).initialize(new Generator(1), { dtype: 'bfloat16' });
  const rows = scaled.forward(tensor([3, 1], { dtype: 'int64' }));
  const wanted = scaled.weight.cast('float32').mul(55.5).cast('bfloat16');
  expect(rows).toMatchTensor(stack([wanted.select(0, 3), wanted.select(0, 1)]), { atol: 0 });
});

test('the offset RMS norm multiplies by 1 + weight and rounds once', () => {
  const x = tensor([[1, 2, 3, 6]]);
  const norm = new OffsetRmsNorm(4).initialize(new Generator(0), { dtype: 'bfloat16' });
  norm.weight.fill_(0.001); // 1.001 is 1 in bfloat16
  const wanted = tensor([1, 2, 3, 6].map((value) => (1.001 * value) / Math.sqrt(12.5 + 1e-6)));
  expect(norm.forward(x)).toMatchTensor(wanted.unsqueeze(0), { atol: 1e-6 });
  expect(norm.forward(x.cast('bfloat16'))).toMatchTensor(wanted.cast('bfloat16').unsqueeze(0), { atol: 0 });
});

test('convolution with stride and padding', () => {
  const conv = new Conv2d(1, 1, { kernel: 3, stride: 2, padding: 1 }).initialize(new Generator(0));
  conv.weight.fill_(1);
  conv.bias?.fill_(0.5);
  // sums of the 3 x 3 windows around (0,0), (0,2), (2,0), (2,2) of 0..8, in a frame of zeros
  expect(conv.forward(arange(9).cast('float32').view(1, 1, 3, 3))).toMatchTensor(
    tensor([
      [
        [
          [8.5, 12.5],
          [20.5, 24.5],
        ],
      ],
    ]),
  );
});

// Values of PyTorch 2.15 and transformers 5.23 at 1.5 and -0.7.
test.each([
  ['gelu', 1.3997893, -0.1693746],
  ['gelu_pytorch_tanh', 1.3995715, -0.1694299],
  ['quick_gelu', 1.3916622, -0.163106],
  ['silu', 1.2263616, -0.2322686],
  ['relu', 1.5, 0],
] satisfies [ActivationName, number, number][])('%s', (name, positive, negative) => {
  expect(activations[name](tensor([1.5, -0.7]))).toMatchTensor([positive, negative], { atol: 1e-6 });
});

test('running layers keeps the input and the result only', () => {
  using _scope = new Scope();
  const x = full([2], 1);
  const before = liveTensors();
  const y = runLayers([2, 3, 4], x, (factor, h) => h.add(1).mul(factor));
  expect(liveTensors()).toBe(before + 1);
  expect(y).toMatchTensor([64, 64]);
  expect(x.freed).toBe(false);
  expect(runLayers([], x, () => y)).toBe(x);
});

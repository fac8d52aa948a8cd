import { describe, expect, test } from 'vitest';
import { Linear } from '../../src/nn/linear.ts';
import { QuantizedLinear } from '../../src/nn/quantized-linear.ts';
import { gradients } from '../../src/tensor/autograd.ts';
import { ones, randn, tensor } from '../../src/tensor/create.ts';
import { linear } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const shapes = [
  [5, 64],
  [3, 65],
  [7, 130],
  [4, 1],
  [600, 96],
] as const;
const generator = new Generator(3);
const layerOf = (outputs: number, inputs: number, bias = true): Linear =>
  Linear.of(randn([outputs, inputs], { generator }), bias ? randn([outputs], { generator }) : undefined);

const levels = [
  -1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0, 0.0795803, 0.1609302, 0.2461123, 0.33791524,
  0.44070983, 0.562617, 0.72295684, 1,
];

/** Every value of a row's 64 becomes the nearest level times the largest magnitude among them. */
function nearestLevels(rows: readonly (readonly number[])[]): number[] {
  return rows.flatMap((row) =>
    row.map((value, i) => {
      const block = row.slice(i - (i % 64), i - (i % 64) + 64);
      const scale = Math.max(...block.map(Math.abs));
      return scale * levels.reduce((best, level) => (Math.abs(level - value / scale) < Math.abs(best - value / scale) ? level : best));
    }),
  );
}

describe.each([4, 8] as const)('%i bits', (bits) => {
  test.each(shapes)('a weight [%i, %i] acts as what it decodes to, and so do its gradients', (outputs, inputs) => {
    for (const bias of [true, false]) {
      const layer = layerOf(outputs, inputs, bias);
      const packed = new QuantizedLinear(layer, bits);
      const x = randn([2, 3, inputs], { generator }).requiresGrad_();
      const [y, expected] = [packed.forward(x), linear(x, packed.weight, layer.bias)];
      expect(y).toMatchTensor(expected);
      const outer = randn(y.shape, { generator });
      const [got, wanted] = [y, expected].map((z) => gradients([z], [x], [outer])[0]);
      expect(got).toMatchTensor(wanted as Tensor);
    }
  });

  test.each(['float32', 'bfloat16', 'float16'] as const)('inputs may be %s', (dtype) => {
    const packed = new QuantizedLinear(layerOf(9, 70, false), bits);
    const x = randn([4, 70], { generator }).cast(dtype);
    const y = packed.forward(x);
    expect(y.dtype).toBe(dtype);
    expect(y.cast('float32')).toMatchTensor(linear(x, packed.weight.cast(dtype)).cast('float32'));
  });

  test('zeros stay zeros', () => {
    const packed = new QuantizedLinear(Linear.of(randn([2, 64], { generator }).mul(tensor([[1], [0]]))), bits);
    expect(Array.from(packed.weight.select(0, 1).toArray() as Float32Array, Math.abs).every((value) => value === 0)).toBe(true);
  });
});

test('int8 is off by half a step of its row at most', () => {
  const layer = layerOf(6, 200);
  const off = new QuantizedLinear(layer, 8).weight.sub(layer.weight).abs().amax(1);
  const allowed = layer.weight.abs().amax(1).div(127).mul(0.5001);
  expect(Array.from(off.le(allowed).toArray() as Uint8Array)).toEqual(new Array(6).fill(1));
});

test('nf4 takes the nearest level; scales lose a 254th of their spread at most', () => {
  const layer = layerOf(8, 130);
  const rows = layer.weight.toList() as number[][];
  const wanted = nearestLevels(rows);
  const magnitudes = rows.flatMap((row) => [0, 64, 128].map((from) => Math.max(...row.slice(from, from + 64).map(Math.abs))));
  const mean = magnitudes.reduce((sum, x) => sum + x, 0) / magnitudes.length;
  const spread = Math.max(...magnitudes.map((x) => Math.abs(x - mean)));
  expect(new QuantizedLinear(layer, 4).weight.reshape(-1)).toMatchTensor(wanted, { atol: spread / 254 + 1e-6 });
});

test('a weight takes about 0.52 bytes a number in four bits and one in eight', () => {
  const layer = layerOf(512, 1024, false);
  const bytes = (bits: 4 | 8): number => new QuantizedLinear(layer, bits).bytes;
  expect(bytes(4) / layer.weight.numel).toBeCloseTo(0.5 + 1 / 64 + 4 / (64 * 256), 4);
  expect(bytes(8) / layer.weight.numel).toBeCloseTo(1 + 4 / 1024, 4);
});

test('what does not fit is refused', () => {
  const packed = new QuantizedLinear(layerOf(5, 64), 4);
  expect(() => packed.forward(ones([2, 70]))).toThrowErrorMatchingInlineSnapshot(
    `[NativeError: tinyllava::quantized_linear: quantized_linear: 70 inputs, but codes [5, 32]]`,
  );
  packed.bias?.requiresGrad_();
  expect(() => packed.forward(ones([2, 64]))).toThrowErrorMatchingInlineSnapshot(
    `[NativeError: tinyllava::quantized_linear: quantized_linear: the bias is one frozen number for each of 5 outputs]`,
  );
});

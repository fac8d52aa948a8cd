import { expect, test } from 'vitest';
import { Rotary, rotate } from '../../src/nn/rope.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import '../matchers.ts';

test('frequencies fall from 1 by the powers of theta', () => {
  expect(tensor(new Rotary(8, { theta: 10_000 }).frequencies)).toMatchTensor([1, 0.1, 0.01, 0.001], { atol: 1e-8 });
});

test('linear scaling divides every frequency', () => {
  const scaled = new Rotary(8, { theta: 10_000, scaling: { ropeType: 'linear', factor: 4 } });
  expect(tensor(scaled.frequencies)).toMatchTensor([0.25, 0.025, 0.0025, 0.00025], { atol: 1e-8 });
});

test('llama3 scaling keeps fast frequencies, divides slow ones and blends between', () => {
  const scaling = { ropeType: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 8192 } as const;
  const plain = new Rotary(128, { theta: 500_000 }).frequencies;
  const scaled = new Rotary(128, { theta: 500_000, scaling }).frequencies;
  const ratios = Array.from(scaled, (value, i) => value / (plain[i] ?? 0));
  expect(ratios[0]).toBe(1);
  expect(ratios[63]).toBeCloseTo(1 / 8, 6);
  // Made by transformers 5.23 for this configuration.
  expect([scaled[28], scaled[30], scaled[32], scaled[34]].map((value) => Number(value?.toPrecision(6)))).toEqual([
    0.00321145, 0.00137189, 0.000524846, 0.000178508,
  ]);
});

test('of larger heads the first elements turn alone', () => {
  const x = randn([3, 2, 10], { generator: new Generator(3) });
  const angles = new Rotary(4, { theta: 100 }).at(Float32Array.of(0, 5, 7), x);
  const rotated = rotate(x, angles);
  expect(rotated.narrow(2, 0, 4)).toMatchTensor(rotate(x.narrow(2, 0, 4).contiguous(), angles));
  expect(rotated.narrow(2, 4, 6)).toMatchTensor(x.narrow(2, 4, 6), { atol: 0 });
});

test('factors divide each frequency, and the amplitude multiplies what is rotated', () => {
  const rotary = new Rotary(4, { theta: 100, scaling: { ropeType: 'factors', factors: [2, 5], amplitude: 1.5 } });
  expect(tensor(rotary.frequencies)).toMatchTensor([0.5, 0.02], { atol: 1e-8 });
  expect(rotary.at(Float32Array.of(3), tensor([0])).cos).toMatchTensor([1.5 * Math.cos(1.5), 1.5 * Math.cos(0.06)]);
});

test('rotating keeps lengths, and products depend on the distance alone', () => {
  const rotary = new Rotary(6, { theta: 100 });
  const generator = new Generator(3);
  const x = randn([1, 2, 6], { generator }).expand(4, 2, 6);
  const y = randn([1, 2, 6], { generator }).expand(4, 2, 6);
  const at = Float32Array.of(0, 5, 100, 1003);
  const rotated = rotate(x, rotary.at(at, x));
  expect(rotated.square().sum(2)).toMatchTensor(x.square().sum(2));
  expect(rotated.select(0, 0)).toMatchTensor(x.select(0, 0));
  const products = rotated
    .mul(
      rotate(
        y,
        rotary.at(
          at.map((position) => position + 3),
          y,
        ),
      ),
    )
    .sum(2);
  expect(products).toMatchTensor(products.select(0, 0).unsqueeze(0).expand(4, 2), { atol: 1e-4 });
});

test('angles of far positions are exact to float32', () => {
  const { cos } = new Rotary(4, { theta: 10_000 }).at(Float32Array.of(100_000), tensor([0]));
  expect(cos).toMatchTensor([Math.cos(100_000), Math.cos(1000)], { atol: 1e-4 });
});

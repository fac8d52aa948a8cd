import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cat, empty, full, indices, ones, randint, zeros } from '../../src/tensor/create.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import {
  append_,
  cachedAttention,
  linear,
  linearCrossEntropy,
  rmsNorm,
  rope,
  type SigmoidForm,
  sigmoidUnit,
  squareSum,
  swiglu,
} from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { exact, expectClose, expectSame, random, withGradients } from './expect.ts';

// Other tests may run beside these, and small work on two threads then waits for the scheduler.
const usual = threads();
beforeAll(() => setThreads(1));
afterAll(() => setThreads(usual));

const dtypes = ['float32', 'bfloat16'] as const;

describe.each(dtypes)('in %s', (dtype) => {
  const rowsAndSizes = [1, 2, 3, 4, 5, 7, 8, 9].flatMap((rows) => [1, 5, 16, 33, 100, 576].map((width) => [rows, width] as const));
  test.each(rowsAndSizes)('linear on %i rows of %i equals a matrix product', (rows, width) => {
    for (const outputs of [1, 7, 130]) {
      const [x, weight, bias] = [random([rows, width], dtype), random([outputs, width], dtype, 2), random([outputs], dtype, 3)];
      const product = exact(x).matmul(exact(weight).t());
      expectClose(linear(x, weight), product, 2);
      expectClose(linear(x, weight, bias), product.add(exact(bias)), 2);
    }
  });

  test('linear on rows enough for two threads to take their own equals a matrix product', () => {
    setThreads(2);
    const [x, weight, bias] = [random([1027, 96], dtype), random([50, 96], dtype, 2), random([50], dtype, 3)];
    const product = exact(x).matmul(exact(weight).t());
    expectClose(linear(x, weight), product, 2);
    expectClose(linear(x, weight, bias), product.add(exact(bias)), 2);
    setThreads(1);
  });

  test('linear takes rows that are not contiguous, more dimensions, and none at all', () => {
    const [x, weight] = [random([40, 3], dtype), random([6, 40], dtype, 2)];
    expectClose(linear(x.t(), weight), exact(x).t().matmul(exact(weight).t()));
    expectClose(linear(x.t().view(3, 1, 40), weight), exact(x).t().matmul(exact(weight).t()).view(3, 1, 6));
    expectClose(linear(x.t(), weight.narrow(1, 0, 40)), exact(x).t().matmul(exact(weight).t()));
    expectClose(
      linear(x.t().narrow(1, 0, 20), weight.narrow(1, 20, 20)),
      exact(x)
        .t()
        .narrow(1, 0, 20)
        .matmul(exact(weight).t().narrow(0, 20, 20)),
    );
    expect(linear(empty([0, 40], { dtype }), weight).shape).toEqual([0, 6]);
  });

  test('linear has gradients on few rows too', () => {
    expectSame(
      (x, w, b) => linear(x as Tensor, w as Tensor, b),
      (x, w, b) => (x as Tensor).matmul((w as Tensor).t()).add(b as Tensor),
      [random([2, 20], dtype), random([5, 20], dtype, 2), random([5], dtype, 3)],
      2,
    );
  });

  const heads = [
    { H: 9, G: 3, D: 64 },
    { H: 4, G: 4, D: 16 },
    { H: 6, G: 2, D: 80 },
    { H: 2, G: 1, D: 7 },
    { H: 8, G: 8, D: 128 },
  ];
  test.each(heads)('decode attention over a half-filled cache equals softmax attention ($H/$G heads of $D)', ({ H, G, D }) => {
    for (const length of [1, 8, 13, 256, 257, 1000]) {
      const capacity = length + 5;
      const [q, keys, values] = [random([H, D], dtype), random([G, capacity, D], dtype, 2), random([G, capacity, D], dtype, 3)];
      // What lies behind the valid rows must not be read.
      keys.narrow(1, length, 5).fill_(Number.NaN);
      values.narrow(1, length, 5).fill_(Number.NaN);
      const scores = exact(q)
        .view(G, H / G, D)
        .bmm(exact(keys).narrow(1, 0, length).transpose(1, 2))
        .div(Math.sqrt(D));
      const expected = scores
        .softmax(-1)
        .bmm(exact(values).narrow(1, 0, length))
        .reshape(H, D);
      const decoded = (keys: Tensor, values: Tensor): Tensor => cachedAttention(q.unsqueeze(0), { keys, values, length }).squeeze(0);
      expectClose(decoded(keys, values), expected);
      const swapped = [keys, values].map((x) => x.transpose(0, 1).contiguous().transpose(0, 1)) as [Tensor, Tensor];
      expectClose(decoded(...swapped), expected);
    }
  });

  test('rows are appended to a cache at their position, from whatever strides', () => {
    const [keys, values] = [random([4, 3, 20], dtype), random([3, 4, 20], dtype, 2).transpose(0, 1)];
    const room = { keys: zeros([3, 10, 20], { dtype }), values: zeros([3, 10, 20], { dtype }) };
    append_(room, keys, values, 5);
    expect(room.keys.narrow(1, 5, 4)).toMatchTensor(keys.transpose(0, 1), { atol: 0 });
    expect(room.values.narrow(1, 5, 4)).toMatchTensor(values.transpose(0, 1), { atol: 0 });
    expect(room.keys.narrow(1, 0, 5).abs().sum().item() + room.keys.narrow(1, 9, 1).abs().sum().item()).toBe(0);
  });

  test('decode attention keeps its footing on scores that overflow an exponential', () => {
    const [q, keys] = [full([1, 1, 16], 30, { dtype }), full([1, 300, 16], 1, { dtype })];
    keys.narrow(1, 299, 1).fill_(10);
    const values = random([1, 300, 16], dtype);
    expectClose(cachedAttention(q, { keys, values, length: 300 }), exact(values).narrow(1, 299, 1));
  });

  test.each([[[1, 1]], [[3, 5]], [[2, 3, 64]], [[100, 576]], [[70, 33]], [[1000, 48]]])('RMS norm of %j equals its definition', (shape) => {
    const width = shape.at(-1) ?? 0;
    const reference = (x?: Tensor, w?: Tensor) =>
      (x as Tensor).mul((x as Tensor).square().mean(-1, { keepDim: true }).add(1e-5).rsqrt()).mul(w as Tensor);
    expectSame((x, w) => rmsNorm(x as Tensor, w as Tensor, 1e-5), reference, [random(shape, dtype).mul(3), random([width], dtype, 2)], 4);
  });

  test('RMS norm casts before it scales, as Llama does', () => {
    const [x, weight] = [random([4, 33], dtype), random([33], dtype, 2)];
    const floats = x.cast('float32');
    const normalized = floats.mul(floats.square().mean(-1, { keepDim: true }).add(1e-6).rsqrt()).cast(dtype);
    expect(rmsNorm(x, weight, 1e-6)).toMatchTensor(normalized.mul(weight), { atol: dtype === 'bfloat16' ? 0 : 1e-6 });
  });

  const rotated = [
    { N: 1, H: 1, D: 2, width: 1 },
    { N: 3, H: 2, D: 8, width: 8 },
    { N: 5, H: 9, D: 64, width: 32 },
    { N: 7, H: 3, D: 80, width: 40 },
    { N: 4, H: 2, D: 80, width: 16 },
    { N: 200, H: 4, D: 64, width: 64 },
  ];
  test.each(rotated)('rope equals a rotation by halves (%j)', ({ N, H, D, width }) => {
    const [cos, sin] = [random([N, width], 'float32', 4), random([N, width], 'float32', 5)];
    const half = width === D ? D / 2 : width;
    const parts = (x: Tensor): [Tensor, Tensor] => [x.narrow(1, 0, half), x.narrow(1, width - half, half)];
    const turn = (x: Tensor): Tensor => {
      const [c0, c1] = parts(exact(cos).unsqueeze(1).transpose(1, 2).squeeze(2)).map((t) => t.unsqueeze(1)) as [Tensor, Tensor];
      const [s0, s1] = parts(exact(sin)).map((t) => t.unsqueeze(1)) as [Tensor, Tensor];
      const [a, b] = [x.narrow(2, 0, half), x.narrow(2, half, half)];
      return cat([a.mul(c0).sub(b.mul(s0)), b.mul(c1).add(a.mul(s1)), x.narrow(2, 2 * half, D - 2 * half)], 2);
    };
    expectSame(
      (x) => rope(x as Tensor, cos, sin),
      (x) => turn(x as Tensor),
      [random([N, H, D], dtype)],
      2,
    );
    const wide = random([N, 3 * H, D], dtype, 6);
    expectClose(rope(wide.narrow(1, H, H), cos, sin), turn(exact(wide).narrow(1, H, H)), 2);
  });

  test.each([[[1]], [[3, 5]], [[7, 48]], [[40, 1000]]])('SwiGLU of %j equals silu(gate) times up', (shape) => {
    const reference = (gate?: Tensor, up?: Tensor) => (gate as Tensor).mul((gate as Tensor).sigmoid()).mul(up as Tensor);
    expectSame((gate, up) => swiglu(gate as Tensor, up as Tensor), reference, [random(shape, dtype).mul(3), random(shape, dtype, 2)], 2);
  });

  const forms = {
    silu: (x: Tensor) => x,
    quick_gelu: (x: Tensor) => x.mul(1.702),
    gelu_tanh: (x: Tensor) => x.add(x.pow(3).mul(0.044715)).mul(2 * Math.sqrt(2 / Math.PI)),
  };
  test.each(Object.entries(forms))('%s is x times a sigmoid, with and without a gate', (form, p) => {
    const reference = (x?: Tensor) => (x as Tensor).mul(p(x as Tensor).sigmoid());
    const [x, up] = [random([13, 70], dtype).mul(3), random([13, 70], dtype, 2)];
    expectSame((x) => sigmoidUnit(x as Tensor, form as SigmoidForm), reference, [x], 2);
    expectSame(
      (x, up) => sigmoidUnit(x as Tensor, form as SigmoidForm, up),
      (x, up) => reference(x).mul(up as Tensor),
      [x, up],
      2,
    );
  });

  test('SwiGLU at the ends of the range', () => {
    const gate = full([3], 0, { dtype });
    gate.narrow(0, 0, 1).fill_(-200);
    gate.narrow(0, 1, 1).fill_(200);
    gate.narrow(0, 2, 1).fill_(Number.NaN);
    const { value, grads } = withGradients((g, u) => swiglu(g as Tensor, u as Tensor), [gate, ones([3], { dtype })], ones([3]));
    expect(Array.from(value.toArray() as Float32Array)).toEqual([expect.closeTo(0, 20), 200, Number.NaN]);
    expect(Array.from((grads[0] as Tensor).toArray() as Float32Array)).toEqual([expect.closeTo(0, 20), 1, Number.NaN]);
  });

  const heads2 = [
    { K: 1, C: 3, V: 2, chunk: 1 },
    { K: 7, C: 16, V: 33, chunk: 3 },
    { K: 20, C: 64, V: 100, chunk: 8 },
    { K: 33, C: 20, V: 515, chunk: 100 },
    // More of a head than is added at once.
    { K: 5, C: 700, V: 7001, chunk: 2 },
  ];
  test.each(heads2)('the chunked head and loss equal logits and cross-entropy (%j)', ({ K, C, V, chunk }) => {
    const labels = randint(0, V, [K], { generator: new Generator(9) });
    const loss = (hidden?: Tensor, weight?: Tensor, bias?: Tensor) =>
      linearCrossEntropy(hidden as Tensor, weight as Tensor, labels, { ...(bias && { bias }), chunk });
    const reference = (hidden?: Tensor, weight?: Tensor, bias?: Tensor) => {
      const product = (hidden as Tensor).matmul((weight as Tensor).t());
      return (bias ? product.add(bias) : product).logSoftmax(1).gather(1, labels.unsqueeze(1)).sum().neg();
    };
    const inputs = [random([K, C], dtype), random([V, C], dtype, 2).mul(0.3), random([V], dtype, 3)];
    expectSame(loss, reference, inputs, dtype === 'bfloat16' ? 4 : 8);
    expectSame(loss, reference, inputs.slice(0, 2), dtype === 'bfloat16' ? 4 : 8);
  });
});

describe('the chunked head and loss', () => {
  const [hidden, weight, labels] = [random([6, 8], 'float32'), random([11, 8], 'float32', 2), indices([0, 3, 10, 5, 5, 1])];

  test('leaves alone what needs no gradient', () => {
    const trained = hidden.detach().requiresGrad_();
    linearCrossEntropy(trained, weight, labels, { chunk: 4 }).backward();
    expect(trained.grad?.shape).toEqual([6, 8]);
    expect(weight.grad).toBeUndefined();
  });

  test('is zero, with zero gradients, when nothing is supervised', () => {
    const head = weight.detach().requiresGrad_();
    const loss = linearCrossEntropy(empty([0, 8]), head, indices([]), { chunk: 4 });
    loss.backward();
    expect(loss.item()).toBe(0);
    expect(head.grad).toMatchTensor(zeros([11, 8]), { atol: 0 });
  });

  test('gives its gradients away once', () => {
    const trained = hidden.detach().requiresGrad_();
    const loss = linearCrossEntropy(trained, weight, labels, { chunk: 4 });
    loss.backward();
    expect(() => loss.backward()).toThrow();
  });
});

test('what the kernels give does not depend on the number of threads', () => {
  const run = (count: number): Tensor[] => {
    setThreads(count);
    const [x, y] = [random([300, 96], 'float32'), random([300, 96], 'float32', 2)];
    const [norm, gated] = [
      withGradients((h, w) => rmsNorm(h as Tensor, w as Tensor, 1e-5), [x, ones([96])], y),
      withGradients((g, u) => swiglu(g as Tensor, u as Tensor), [x, y], x),
    ];
    const cache = random([2, 900, 48], 'float32', 4);
    const attended = cachedAttention(x.narrow(0, 0, 4).narrow(1, 0, 48).unsqueeze(0), { keys: cache, values: cache, length: 900 });
    const few = linear(x.narrow(0, 0, 3), random([3000, 96], 'float32', 5));
    return [norm, gated].flatMap(({ value, grads }) => [value, ...grads]).concat(attended, few);
  };
  const [one, two] = [run(1), run(2)];
  setThreads(1);
  for (const [i, x] of one.entries()) expect(two[i]?.equal(x), `result ${i}`).toBe(true);
});

describe('wrong shapes are named', () => {
  const x = ones([2, 3]);
  test.each([
    ['linear: expected x [..., K=4], got [2, 3]', () => linear(x, ones([5, 4]))],
    ['linear: expected bias [N=5], got [2]', () => linear(x, ones([5, 3]), ones([2]))],
    ['rms_norm: expected x [..., C=4], got [2, 3]', () => rmsNorm(x, ones([4]), 1e-6)],
    ['sigmoid_unit: x is [2, 3] but up [3]', () => swiglu(x, ones([3]))],
    ['sigmoid_unit: no form relu; there are silu, quick_gelu and gelu_tanh', () => sigmoidUnit(x, 'relu' as never)],
    ['rope: expected x [N, H, D], got [2, 3]', () => rope(x, x, x)],
    ['rope: expected cos [N=2, at most D/2=2] or [N=2, D=4], got [2, 3]', () => rope(ones([2, 1, 4]), x, x)],
    [
      'linear_cross_entropy: label 5 of row 1 is outside the vocabulary of 5',
      () => linearCrossEntropy(x, ones([5, 3]), indices([0, 5]), { chunk: 1 }),
    ],
    [
      'linear_cross_entropy: expected labels [K=2] of int64, got [1] of long int',
      () => linearCrossEntropy(x, ones([5, 3]), indices([0]), { chunk: 1 }),
    ],
    ['linear_cross_entropy: a chunk has at least one row, got 0', () => linearCrossEntropy(x, ones([5, 3]), indices([0, 1]), { chunk: 0 })],
  ])('%s', (message, call) => {
    expect(call).toThrow(message);
  });
});

const script = join(import.meta.dirname, 'kernel-outputs.mjs');
const addon = process.env['TINYLLAVA_ADDON'] ?? join(import.meta.dirname, '../../build/tinyllava.node');
const outputs = (capability: string): number[] => {
  const env = { ...process.env, ATEN_CPU_CAPABILITY: capability };
  const run = spawnSync(process.execPath, [script, addon], { encoding: 'utf8', env, maxBuffer: 2 ** 26 });
  return JSON.parse(run.stdout) as number[];
};

test.each(['default', 'avx2'])('the kernels for %s give what those for this machine give', (capability) => {
  const [received, expected] = [outputs(capability), outputs('avx512')];
  expect(expected.length).toBeGreaterThan(1000);
  expect(received.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(received[i]).toBeCloseTo(value, 1);
});

test.each(dtypes)('linear of many %s rows has the values and gradients of a matrix product', (dtype) => {
  const [rows, width, outputs] = [157, 251, 203];
  const inputs = [random([rows, width], dtype), random([outputs, width], dtype, 2), random([outputs], dtype, 3)];
  const reference = (x: Tensor, weight: Tensor, bias?: Tensor) => (bias ? x.matmul(weight.t()).add(bias) : x.matmul(weight.t()));
  expectSame((x, weight, bias) => linear(x, weight, bias), reference, inputs, 4);
  expectSame((x, weight) => linear(x, weight), reference, inputs.slice(0, 2), 4);
  // A sequence of sequences, transposed, and only some that learn.
  const x = random([width, rows], dtype, 4).t().view(1, rows, width);
  const [weight, bias] = [inputs[1] as Tensor, inputs[2] as Tensor];
  expectSame(
    (weight) => linear(x, weight, bias).squeeze(0),
    (weight) => exact(x).squeeze(0).matmul(weight.t()).add(exact(bias)),
    [weight],
    4,
  );
  expectSame(
    (bias) => linear(x, weight, bias).squeeze(0),
    (bias) => exact(x).squeeze(0).matmul(exact(weight).t()).add(bias),
    [bias],
    4,
  );
});

test('the sum of squares of bfloat16 tensors is the same on any number of threads', () => {
  const list = [
    random([70_003], 'bfloat16'),
    random([300, 501], 'bfloat16', 2),
    random([5], 'bfloat16', 3),
    random([33, 4], 'bfloat16', 4).t(),
  ];
  const expected = list.reduce((sum, x) => sum + exact(x).square().sum().item(), 0);
  const one = squareSum(list);
  expect(Math.abs(one / expected - 1)).toBeLessThan(1e-5);
  setThreads(2);
  expect(squareSum(list)).toBe(one);
  setThreads(1);
  expect(squareSum([])).toBe(0);
});

// Prints what the kernels give on fixed inputs, as one JSON list; kernels.test.ts compares it between instruction sets.
import { createRequire } from 'node:module';

/** @type {import('../../src/tensor/native.ts').Native} */
const native = createRequire(import.meta.url)(process.argv[2] ?? '');
/** @param {string} name @returns {(...args: unknown[]) => never} */
const bind = (name) => /** @type {never} */ (native.bind(name, name === 'aten::to' ? 'dtype' : ''));
const [float, bfloat, long] = [6, 15, 4];

let state = 1;
/** @param {number[]} shape @param {number} dtype */
function random(shape, dtype) {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1)).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return bind('aten::to')(native.fromData(data, shape, float), dtype, false, false, null);
}

/** @type {number[]} */
const printed = [];
/** @param {import('../../src/tensor/native.ts').Handle} tensor */
function print(tensor) {
  const out = new Float32Array(native.shape(tensor).reduce((a, b) => a * b, 1));
  native.toData(bind('aten::to')(tensor, float, false, false, null), out);
  printed.push(...out);
}

for (const dtype of [float, bfloat]) {
  for (const rows of [1, 2, 4, 8]) print(bind('tinyllava::linear')(random([rows, 75], dtype), random([9, 75], dtype), random([9], dtype)));
  for (const rows of [1, 60]) {
    const [q, keys, values] = [random([rows, 6, 40], dtype), random([2, 301, 40], dtype), random([2, 301, 40], dtype)];
    print(bind('tinyllava::cached_attention')(q, keys, values, 300, 0.3, null, 0));
  }
  const labels = native.fromData(new BigInt64Array([1n, 30n, 7n]), [3], long);
  /** @type {[string, unknown[]][]} */
  const differentiable = [
    ['tinyllava::rms_norm', [random([5, 39], dtype), random([39], dtype), 1e-5]],
    ['tinyllava::rope', [random([5, 3, 40], dtype), random([5, 20], float), random([5, 20], float)]],
    ['tinyllava::packed_attention', [...[6, 2, 2].map((heads) => random([50, heads, 40], dtype)), [48, 2], [48, 2], true, 0.3, 30, 2]],
    ['tinyllava::sigmoid_unit', [random([5, 39], dtype), random([5, 39], dtype), 'silu']],
    ['tinyllava::sigmoid_unit', [random([5, 39], dtype), null, 'gelu_tanh']],
    ['tinyllava::linear_cross_entropy', [random([3, 20], dtype), random([31, 20], dtype), null, labels, 2]],
  ];
  for (const [name, args] of differentiable) {
    const [first] = /** @type {import('../../src/tensor/native.ts').Handle[]} */ (args);
    if (first === undefined) continue;
    native.setRequiresGrad(first, true);
    const out = bind(name)(...args);
    print(out);
    native.backward(out, random(native.shape(out), name.endsWith('entropy') ? float : dtype));
    const grad = native.grad(first);
    if (grad !== null) print(grad);
  }
}
process.stdout.write(JSON.stringify(printed));

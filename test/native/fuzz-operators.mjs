// Calls every bound operator with arguments that make no sense, seeded. A crash ends this process with a signal; see misuse.test.ts.
import { readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';

const [addonPath = '', operatorsPath = '', seedText, roundsText] = process.argv.slice(2);
/** @type {import('../../src/tensor/native.ts').Native} */
const native = createRequire(import.meta.url)(addonPath);

let state = Number(seedText) || 1;
/** @param {number} below */
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
/** @type {<T>(list: readonly T[]) => T} */
const pick = (list) => /** @type {never} */ (list[random(list.length)]);

const make = native.fromData;
/** @param {string} name @param {string} overload @returns {(...args: unknown[]) => unknown} */
const bind = (name, overload) => /** @type {never} */ (native.bind(name, overload));
const tensors = [
  make(new Float32Array(6).fill(0.5), [2, 3], 6),
  make(new Float32Array(0), [0, 3], 6),
  make(new Float32Array(1), [], 6),
  make(new Float32Array(24), [1, 2, 3, 4], 6),
  make(new Int32Array(6).fill(-7), [2, 3], 3),
  make(new BigInt64Array(2).fill(10n ** 12n), [2], 4),
  make(new BigInt64Array(3).fill(-1n), [3], 4),
  make(new Uint8Array(2).fill(1), [2], 11),
  make(new Uint8Array(12), [1, 3, 2, 2], 0),
  make(new Float64Array(2).fill(Number.NaN), [2], 7),
  bind('aten::to', 'dtype')(make(new Float32Array(6), [2, 3], 6), 15, false, false, null),
  bind('aten::empty', 'memory_format')([2, 3], 6, null, 'meta'),
];
const freed = make(new Float32Array(1), [1], 6);
native.free(freed);

const junk = [
  () => pick(tensors),
  () => pick(tensors),
  () => pick(tensors),
  () => freed,
  () => null,
  () => undefined,
  () => random(4),
  () => -1 - random(3),
  () => 0,
  () => 0.5,
  () => Number.NaN,
  () => Number.POSITIVE_INFINITY,
  () => 2 ** 40,
  () => 'sum',
  () => '',
  () => true,
  () => {},
  () => ({}),
  () => 3n,
  () => Symbol('x'),
  () => [],
  () => [random(3), random(3)],
  () => [-1],
  () => [pick(tensors), pick(tensors)],
  () => [null, freed],
  () => ['a'],
  () => new Float32Array(2),
];

/** Values of the right kind, most of them unreasonable. */
/** @type {readonly [RegExp, () => unknown][]} */
const kinds = [
  [/^Tensor\S*\[\]|^Tensor\?\[\]/, () => Array.from({ length: random(4) }, () => pick(tensors))],
  [/^Tensor/, () => pick(tensors)],
  [/^(Sym)?[iI]nt\[/, () => Array.from({ length: random(5) }, () => pick([0, 1, 2, 3, -1, -2, 7]))],
  [/^(Sym)?[iI]nt/, () => pick([0, 1, 2, 3, -1, -2, -3, 6, 15, 100])],
  [/^float\[/, () => [pick([0, 0.5, -1])]],
  [/^(float|Scalar)/, () => pick([0, 1, -1, 0.5, -0.5, 1e30, Number.NaN, 3])],
  [/^bool\[/, () => [true, false]],
  [/^bool/, () => random(2) === 0],
  [/^str/, () => pick(['none', 'tanh', 'floor', 'trunc', 'x'])],
  [/^Device/, () => pick(['cpu', 'meta', 'cuda', 'nonsense:9'])],
  [/^ScalarType/, () => pick([0, 1, 3, 4, 5, 6, 7, 11, 15, 44, -1, 9])],
];

/** One value for a declared parameter such as `int[] dim=0`. @param {string} parameter */
function suited(parameter) {
  if (/=/.test(parameter) && random(2) === 0) return undefined;
  const kind = kinds.find(([pattern]) => pattern.test(parameter));
  return kind ? kind[1]() : null;
}

/** @param {string} schema */
function parameters(schema) {
  return schema
    .slice(schema.indexOf('(') + 1, schema.lastIndexOf(') -> '))
    .replace(/\([a-z!|* ->]+\)/g, '')
    .split(/, (?![^[]*\])/)
    .filter((parameter) => parameter && parameter !== '*');
}

const names = readFileSync(operatorsPath, 'utf8')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'));
let refused = 0;
for (let round = 0; round < Number(roundsText); round++) {
  for (const name of names) {
    const dot = name.indexOf('.');
    const operator = bind(dot < 0 ? name : name.slice(0, dot), dot < 0 ? '' : name.slice(dot + 1));
    const before = state;
    // The last word on disk names the culprit when the process dies.
    if (process.env['FUZZ_TRACE']) writeSync(2, `${name} ${before}\n`);
    // Half of the calls are junk; the others fit the schema, so that they get past the conversion and into libtorch.
    const schema = round % 2 === 0 ? native.schema(dot < 0 ? name : name.slice(0, dot), dot < 0 ? '' : name.slice(dot + 1)) : null;
    const args = schema ? parameters(schema).map(suited) : Array.from({ length: random(14) }, () => pick(junk)());
    try {
      const result = operator(...args);
      for (const handle of Array.isArray(result) ? result : [result]) {
        try {
          if (typeof handle === 'number' && !tensors.includes(/** @type {never} */ (handle))) native.free(/** @type {never} */ (handle));
        } catch {}
      }
    } catch {
      refused++;
    }
  }
}
writeSync(1, `${JSON.stringify({ calls: names.length * Number(roundsText), refused })}\n`);

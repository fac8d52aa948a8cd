import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { randn, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { openGguf } from '../../src/tensor/gguf.ts';
import { type GgufField, type GgufTensor, type GgufType, ggufTypes, writeGguf as steps } from '../../src/tensor/gguf-write.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const folder = mkdtempSync(join(tmpdir(), 'tinyllava-gguf-write-'));
afterAll(() => rmSync(folder, { recursive: true }));

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) => command !== undefined && spawnSync(command, ['-c', 'import gguf, safetensors']).status === 0,
);
const values = randn([3, 5, 64], { generator: new Generator(1) });
const make = (name: string, type: GgufType, tensor: () => Tensor = () => values): GgufTensor => ({
  name,
  type,
  shape: tensor().shape,
  tensor,
});

/** A file written to its end. */
const writeGguf = (...file: Parameters<typeof steps>): number => Array.from(steps(...file)).length;

test('what is written is read back: floats to the bit, blocks as near as they are', () => {
  const path = join(folder, 'all.gguf');
  writeGguf(
    path,
    { 'general.architecture': { type: 'string', value: 'tests' } },
    ggufTypes.map((type) => make(`${type}.weight`, type)),
  );
  const file = openGguf(path);
  const rounded: Partial<Record<GgufType, Tensor>> = { F32: values, F16: values.cast('float16'), BF16: values.cast('bfloat16') };
  const step = { Q4_0: 0.3, Q4_1: 0.25, Q5_0: 0.15, Q5_1: 0.12, Q8_0: 0.02 };
  for (const type of ggufTypes) {
    const name = `${type}.weight`;
    expect(file.type(name)).toBe(type);
    const exact = rounded[type];
    if (exact) expect(file.tensor(name)).toMatchTensor(exact, { atol: 0 });
    else expect(file.tensor(name)).toMatchTensor(values, { atol: step[type as keyof typeof step] });
  }
});

test('metadata come back as they went in, lists and texts of other scripts too', () => {
  const path = join(folder, 'metadata.gguf');
  const fields: Record<string, GgufField> = {
    'a.text': { type: 'string', value: 'Bänke ▁ 猫 😀' },
    'a.texts': { type: 'string', value: ['', 'b'] },
    'a.count': { type: 'uint32', value: 4_294_967_295 },
    'a.counts': { type: 'uint32', value: [1, 2] },
    'a.below': { type: 'int32', value: -3 },
    'a.numbers': { type: 'float32', value: [0.5, -2] },
    'a.yes': { type: 'bool', value: true },
    'a.answers': { type: 'bool', value: [false, true] },
    'a.none': { type: 'string', value: [] },
  };
  writeGguf(path, fields, [make('odd', 'F16', () => tensor([1, 2, 3]))]);
  const { metadata } = openGguf(path);
  expect(Object.fromEntries(metadata)).toEqual(Object.fromEntries(Object.entries(fields).map(([name, { value }]) => [name, value])));
});

test('tensors are made one after another, and freed', () => {
  const before = liveTensors();
  const seen: number[] = [];
  const one = (): Tensor => {
    seen.push(liveTensors() - before);
    return values.mul(2);
  };
  const three = ['a', 'b', 'c'].map((name) => ({ name, type: 'Q4_0', shape: values.shape, tensor: one }) as const);
  writeGguf(join(folder, 'freed.gguf'), {}, three);
  expect(seen).toEqual([0, 0, 0]);
  expect(liveTensors()).toBe(before);
});

test('rows that blocks do not fill are refused, and no file is left where writing fails', () => {
  const path = join(folder, 'refused.gguf');
  expect(() => writeGguf(path, {}, [make('narrow', 'Q8_0', () => tensor([[1, 2, 3]]))])).toThrow(
    'tensor "narrow" has rows of 3 values, which blocks of 32 do not fill',
  );
  const failing = { name: 'x', type: 'F32', shape: [2], tensor: () => tensor([1, 2]).view(3) } as const;
  expect(() => writeGguf(path, {}, [failing])).toThrow(/cannot be written/);
  expect(existsSync(path)).toBe(false);
});

test('a file that is left half-written is gone', () => {
  const path = join(folder, 'half.gguf');
  for (const _ of steps(path, {}, [make('a', 'F32'), make('b', 'F32')])) {
    expect(existsSync(path)).toBe(true);
    break;
  }
  expect(existsSync(path)).toBe(false);
});

test.skipIf(python === undefined)('the gguf package reads the same values (needs a Python with gguf: TINYLLAVA_PYTHON)', () => {
  const path = join(folder, 'python.gguf');
  writeGguf(
    path,
    { 'general.architecture': { type: 'string', value: 'tests' }, 'tests.list': { type: 'string', value: ['a', 'ß'] } },
    ggufTypes.map((type) => make(`${type}.weight`, type)),
  );
  const script = `
import json, sys, gguf, numpy
reader = gguf.GGUFReader(sys.argv[1])
values = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(numpy.float32).reshape(-1).tolist() for t in reader.tensors}
print(json.dumps({"values": values, "list": reader.get_field("tests.list").contents()}))`;
  const { stdout, stderr, status } = spawnSync(python ?? '', ['-c', script, path], { encoding: 'utf8', maxBuffer: 1 << 26 });
  expect(status, stderr).toBe(0);
  const read = JSON.parse(stdout) as { values: Record<string, number[]>; list: string[] };
  expect(read.list).toEqual(['a', 'ß']);
  const ours = openGguf(path);
  for (const type of ggufTypes)
    expect(ours.tensor(`${type}.weight`).cast('float32').view(-1)).toMatchTensor(read.values[`${type}.weight`] ?? [], { atol: 0 });
});

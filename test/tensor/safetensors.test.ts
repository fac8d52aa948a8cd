import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import { tensor, zeros } from '../../src/tensor/create.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { openWeights } from '../../src/tensor/weight-files.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A file with any header and any data, as an attacker or a broken disk would leave it. */
function forge(name: string, header: unknown, data = Buffer.alloc(0)): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat([length, json, data]));
  return path;
}

describe('reading and writing', () => {
  test('every dtype comes back as it was, with metadata', () => {
    const path = join(folder, 'all.safetensors');
    const dtypes = ['float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool'] as const;
    const written = dtypes.map((dtype) => [`a.${dtype}`, tensor([[1, 0, 1]], { dtype })] as const);
    writeSafetensors(path, written, { step: '7' });
    const file = openSafetensors(path);
    expect(file.metadata).toEqual({ format: 'pt', step: '7' });
    expect([...file.names].sort()).toEqual(dtypes.map((dtype) => `a.${dtype}`).sort());
    for (const [name, original] of written) {
      const read = file.tensor(name);
      expect([file.dtype(name), read.dtype, read.shape]).toEqual([original.dtype, original.dtype, [1, 3]]);
      expect(read.equal(original)).toBe(true);
    }
  });

  test('a view is written with its own values', () => {
    const path = join(folder, 'view.safetensors');
    writeSafetensors(path, [
      [
        'x',
        tensor([
          [1, 2],
          [3, 4],
        ]).t(),
      ],
      ['empty', zeros([0, 3])],
      ['scalar', tensor(5)],
    ]);
    const file = openSafetensors(path);
    expect(file.tensor('x').toList()).toEqual([
      [1, 3],
      [2, 4],
    ]);
    expect(file.tensor('empty').shape).toEqual([0, 3]);
    expect(file.tensor('scalar').item()).toBe(5);
  });

  test('writing to a mapped tensor does not reach the file', () => {
    const path = join(folder, 'private.safetensors');
    writeSafetensors(path, [['x', tensor([1, 2])]]);
    openSafetensors(path).tensor('x').fill_(9);
    expect(openSafetensors(path).tensor('x').toList()).toEqual([1, 2]);
  });

  test('a mapped tensor outlives its file', () => {
    const path = join(folder, 'gone.safetensors');
    writeSafetensors(path, [['x', tensor([4, 2])]]);
    const x = openSafetensors(path).tensor('x');
    rmSync(path);
    expect(x.toList()).toEqual([4, 2]);
  });

  test('a file that cannot be written leaves nothing behind', () => {
    const missing = join(folder, 'no', 'where.safetensors');
    expect(() => writeSafetensors(missing, [['x', tensor([1])]])).toThrow(CheckpointError);
    expect(readdirSync(folder).filter((name) => name.includes('.part'))).toEqual([]);
  });

  test('shards are one source through their index', () => {
    const shards = mkdtempSync(join(folder, 'shards-'));
    writeSafetensors(join(shards, 'model-00001-of-00002.safetensors'), [['a', tensor([1])]]);
    writeSafetensors(join(shards, 'model-00002-of-00002.safetensors'), [['b', tensor([2, 3])]]);
    const index = (b: string) =>
      writeFileSync(
        join(shards, 'model.safetensors.index.json'),
        JSON.stringify({ metadata: { total_size: 12 }, weight_map: { a: 'model-00001-of-00002.safetensors', b } }),
      );
    index('model-00002-of-00002.safetensors');
    const weights = openWeights(shards);
    expect(weights.names).toEqual(['a', 'b']);
    expect(weights.tensor('b').toList()).toEqual([2, 3]);
    index('model-00001-of-00002.safetensors');
    expect(() => openWeights(shards)).toThrow('says that model-00001-of-00002.safetensors holds "b", which it does not');
    index('../private.safetensors');
    expect(() => openWeights(shards)).toThrow('lies outside the folder');
  });
});

describe('damaged files are refused by name', () => {
  const x = (over: object) => ({ x: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...over } });
  const data = Buffer.alloc(8);
  test.each([
    ['no data', () => forge('d.safetensors', x({})), 'cut short: tensor "x" ends at'],
    [
      'shape and offsets that disagree',
      () => forge('d.safetensors', x({ shape: [3] }), data),
      'tensor "x" needs 12 bytes, its offsets give 8',
    ],
    ['offsets in reverse', () => forge('d.safetensors', x({ data_offsets: [8, 0] }), data), 'its offsets give -8'],
    [
      'an offset beyond all numbers',
      () => forge('d.safetensors', x({ shape: [2 ** 51], data_offsets: [0, 2 ** 53] }), data),
      'is not described',
    ],
    ['a negative size', () => forge('d.safetensors', x({ shape: [-2] }), data), 'is not described'],
    ['an unknown dtype', () => forge('d.safetensors', x({ dtype: 'F8_E4M3' }), data), 'has the dtype F8_E4M3, which is not supported'],
    ['a gap', () => forge('d.safetensors', x({ data_offsets: [8, 16] }), Buffer.alloc(16)), 'tensors overlap or leave a gap'],
    [
      'tensors that overlap',
      () => forge('d.safetensors', { ...x({}), y: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } }, Buffer.alloc(12)),
      'tensors overlap or leave a gap',
    ],
    ['bytes that belong to nothing', () => forge('d.safetensors', x({}), Buffer.alloc(12)), '4 bytes at the end belong to no tensor'],
    ['a header that is no JSON', () => forge('d.safetensors', '{"x": '), 'the header is not the JSON object that it should be'],
    ['a header that is a list', () => forge('d.safetensors', '[]'), 'the header is not the JSON object that it should be'],
    [
      'metadata that is no text',
      () => forge('d.safetensors', { __metadata__: { a: 1 } }),
      'the header is not the JSON object that it should be',
    ],
  ])('%s', (_, make, message) => {
    const path = make();
    expect(() => openSafetensors(path)).toThrow(CheckpointError);
    expect(() => openSafetensors(path)).toThrow(message);
    expect(() => openSafetensors(path)).toThrow(path);
  });

  test('a header that claims more than the file has', () => {
    const path = join(folder, 'claim.safetensors');
    for (const [claim, message] of [
      [99n, 'cut short: the header needs 99 bytes'],
      [2n ** 63n, 'claims a header of'],
    ] as const) {
      const head = Buffer.alloc(16);
      head.writeBigUInt64LE(claim);
      writeFileSync(path, head);
      expect(() => openSafetensors(path)).toThrow(message);
    }
    writeFileSync(path, '');
    expect(() => openSafetensors(path)).toThrow('0 bytes are too few');
    expect(() => openSafetensors(folder)).toThrow('cannot be read');
    expect(() => openSafetensors(`${path}x`)).toThrow('no such file');
  });

  test('any truncation and any changed byte of the header is refused or still read within the file', () => {
    const path = join(folder, 'fuzz.safetensors');
    writeSafetensors(path, [
      ['weight', tensor([1, 2, 3])],
      ['ids', tensor(new BigInt64Array([5n]))],
    ]);
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(path, whole);
      truncateSync(path, length);
      expect(() => openSafetensors(path)).toThrow(CheckpointError);
    }
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed % below;
    };
    for (let round = 0; round < 2000; round++) {
      const bent = Buffer.from(whole);
      for (let changes = 1 + random(3); changes > 0; changes--) bent[random(whole.length - 20)] = random(256);
      writeFileSync(path, bent);
      try {
        const file = openSafetensors(path);
        for (const name of file.names) file.tensor(name).toArray();
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
      }
    }
  });
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { openGguf } from '../../src/tensor/gguf.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';

const folder = mkdtempSync(join(tmpdir(), 'tinyllava-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const reference = join(import.meta.dirname, '../reference/gguf');
const types = join(reference, 'types.gguf');
const bytes = readFileSync(types);

/** The file with other bytes, under a name of its own. */
function damaged(name: string, change: (bytes: Buffer) => Buffer): string {
  const path = join(folder, `${name}.gguf`);
  writeFileSync(path, change(Buffer.from(bytes)));
  return path;
}

/** What opening says, without the folder. */
function complaint(path: string): string {
  try {
    openGguf(path);
  } catch (error) {
    if (error instanceof CheckpointError) return `${error.message.replace(`${folder}/`, '')}\n${error.hint ?? ''}`;
    throw error;
  }
  return 'opened';
}

/** Where the number of a tensor's type stands. */
function typeAt(name: string): number {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(name.length));
  const at = bytes.indexOf(Buffer.concat([length, Buffer.from(name)])) + 8 + name.length;
  return at + 4 + bytes.readUInt32LE(at) * 8;
}

describe('the values of a tensor', () => {
  const file = openGguf(types);
  const expected = openSafetensors(join(reference, 'types.safetensors'));

  test('are tried for every type that is read', () => {
    expect([...expected.names].sort()).toEqual(['BF16', 'F16', 'F32', 'Q4_0', 'Q4_1', 'Q4_K', 'Q5_0', 'Q5_1', 'Q5_K', 'Q6_K', 'Q8_0']);
  });

  test.each([...expected.names])('of type %s are to the bit those of the gguf package', (name) => {
    expect([file.type(name), file.dtype(name), file.shape(name)]).toEqual([name, file.tensor(name).dtype, expected.shape(name)]);
    expect(file.tensor(name).cast('float32').equal(expected.tensor(name))).toBe(true);
  });

  test('leave nothing behind but themselves', () => {
    const before = liveTensors();
    file.tensor('Q6_K').free();
    expect(liveTensors()).toEqual(before);
  });
});

describe('a file that cannot be read is refused by name', () => {
  test('when it is missing', () => {
    expect(complaint(join(folder, 'nothing.gguf'))).toBe('nothing.gguf: no such file\n');
  });

  test('when it is something else', () => {
    expect(complaint(damaged('magic', (all) => all.fill('X', 0, 4)))).toMatchInlineSnapshot(`
      "magic.gguf: not a GGUF file: it does not begin with "GGUF"
      the file is damaged or not a GGUF file; fetch it again"
    `);
    expect(complaint(damaged('empty', () => Buffer.alloc(0)))).toMatchInlineSnapshot(`
      "empty.gguf: not a GGUF file: it does not begin with "GGUF"
      the file is damaged or not a GGUF file; fetch it again"
    `);
  });

  test('when its version is unknown', () => {
    expect(complaint(damaged('version', (all) => all.fill(9, 4, 5)))).toMatchInlineSnapshot(`
      "version.gguf: GGUF version 9
      versions 2 and 3 are read, little-endian"
    `);
  });

  test('when the header or the data are cut short, wherever that is', () => {
    expect(complaint(damaged('header', (all) => all.subarray(0, 60)))).toMatchInlineSnapshot(`
      "header.gguf: cut short: the header needs 8 bytes from byte 56 on, the file ends at 60
      the file is damaged or not a GGUF file; fetch it again"
    `);
    expect(complaint(damaged('data', (all) => all.subarray(0, all.length - 64)))).toMatchInlineSnapshot(`
      "data.gguf: cut short: tensor "Q6_K" ends at byte 6092, the file at 6048
      the file is damaged or not a GGUF file; fetch it again"
    `);
    for (let end = 0; end < 900; end += 7) expect(complaint(damaged('anywhere', (all) => all.subarray(0, end)))).not.toBe('opened');
  });

  test('when a tensor has a type that is not read', () => {
    const retype = (type: number) => (all: Buffer) => {
      all.writeUInt32LE(type, typeAt('Q4_1'));
      return all;
    };
    expect(complaint(damaged('iq4', retype(23)))).toMatchInlineSnapshot(`
      "iq4.gguf: tensor "Q4_1" has the type IQ4_XS, which is not read
      types that are read: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"
    `);
    expect(complaint(damaged('new', retype(4711)))).toMatchInlineSnapshot(`
      "new.gguf: tensor "Q4_1" has the type 4711, which is not read
      types that are read: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"
    `);
    expect(complaint(damaged('k', retype(12)))).toMatchInlineSnapshot(`
      "k.gguf: tensor "Q4_1" has rows of 64 values, which blocks of 256 (Q4_K) do not fill
      the file is damaged or not a GGUF file; fetch it again"
    `);
  });

  test('when a count was tampered with', () => {
    const count = (at: number) => (all: Buffer) => all.fill(0xff, at, at + 7);
    expect(complaint(damaged('tensors', count(8)))).toMatchInlineSnapshot(`
      "tensors.gguf: cut short: the header needs 9513476249251987000 bytes from byte 583 on, the file ends at 6112
      the file is damaged or not a GGUF file; fetch it again"
    `);
    expect(complaint(damaged('entries', count(16)))).toMatchInlineSnapshot(`
      "entries.gguf: cut short: the header needs 844424930131968 bytes from byte 94 on, the file ends at 6112
      the file is damaged or not a GGUF file; fetch it again"
    `);
  });
});

import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { openTorchFile } from '../../src/tensor/torch-file.ts';

const scratch = mkdtempSync(join(tmpdir(), 'torch-file-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const written = join(import.meta.dirname, '../reference/dialect-factory-pretrain/connector/pytorch_model.bin');

/** A zip file of stored entries, as torch.save lays it out, with any content; `wide` numbers take 8 bytes, as beyond 4 GiB. */
function zip(name: string, files: Readonly<Record<string, Buffer | string>>, { method = 0, wide = false } = {}): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [entry, content] of Object.entries(files)) {
    const label = Buffer.from(`archive/${entry}`);
    const data = Buffer.from(content);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(label.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50);
    central.writeUInt16LE(method, 10);
    central.writeUInt32LE(data.length, 20);
    central.writeUInt32LE(data.length, 24);
    central.writeUInt16LE(label.length, 28);
    central.writeUInt32LE(at, 42);
    const extra = Buffer.alloc(wide ? 28 : 0);
    if (wide) {
      for (const field of [20, 24, 42]) central.writeUInt32LE(0xffffffff, field);
      central.writeUInt16LE(extra.length, 30);
      extra.writeUInt16LE(1);
      extra.writeUInt16LE(24, 2);
      for (const [i, value] of [data.length, data.length, at].entries()) extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i);
    }
    parts.push(local, label, data);
    directory.push(central, label, extra);
    at += 30 + label.length + data.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(at, 16);
  const far = Buffer.alloc(wide ? 76 : 0);
  if (wide) {
    end.fill(0xff, 8, 20);
    far.writeUInt32LE(0x06064b50);
    for (const [i, value] of [Object.keys(files).length, listed.length, at].entries()) far.writeBigUInt64LE(BigInt(value), 32 + 8 * i);
    far.writeUInt32LE(0x07064b50, 56);
    far.writeBigUInt64LE(BigInt(at + listed.length), 64);
  }
  const path = join(scratch, name);
  writeFileSync(path, Buffer.concat([...parts, listed, far, end]));
  return path;
}

const text = (value: string): string => `X${String.fromCharCode(value.length)}\0\0\0${value}`;
/** Pickle of {"w": tensor} as protocol 2 writes it; the storage is "0". */
function tensorPickle({ type = 'FloatStorage', elements = 6, first = 0, shape = [2, 3], strides = [3, 1] } = {}): Buffer {
  const numbers = (values: readonly number[]): string => `(${values.map((value) => `K${String.fromCharCode(value)}`).join('')}t`;
  const storage = `(${text('storage')}ctorch\n${type}\n${text('0')}${text('cpu')}K${String.fromCharCode(elements)}tQ`;
  const body = `${storage}K${String.fromCharCode(first)}${numbers(shape)}${numbers(strides)}\x89ccollections\nOrderedDict\n)R`;
  return Buffer.from(`\x80\x02}${text('w')}ctorch._utils\n_rebuild_tensor_v2\n(${body}tRs.`, 'latin1');
}
const floats = Buffer.from(Float32Array.from([1, 2, 3, 4, 5, 6]).buffer);

function refusal(path: string): string {
  try {
    openTorchFile(path);
  } catch (error) {
    if (error instanceof TinyLlavaError) return `${error.name}: ${error.message}\nhint: ${error.hint}`.replaceAll(`${scratch}/`, '');
    throw error;
  }
  return 'read';
}

describe('what torch.save writes', () => {
  test('a dictionary of half-precision tensors is read with its names, shapes and values', () => {
    const file = openTorchFile(written);
    expect(file.names.slice(0, 3)).toEqual(['_connector.latents', '_connector.linear.weight', '_connector.linear.bias']);
    expect([file.shape('_connector.latents'), file.dtype('_connector.latents')]).toEqual([[3, 4], 'float16']);
    expect(file.tensor('_connector.norm.weight').shape).toEqual([4]);
    expect(() => file.tensor('other')).toThrow('no tensor "other"');
  });

  test('a tensor may begin inside its storage, and lie in it transposed', () => {
    const part = openTorchFile(
      zip('part.bin', { 'data.pkl': tensorPickle({ first: 2, shape: [2, 2], strides: [2, 1] }), 'data/0': floats }),
    );
    expect(part.tensor('w').toList()).toEqual([
      [3, 4],
      [5, 6],
    ]);
    const turned = openTorchFile(zip('turned.bin', { 'data.pkl': tensorPickle({ shape: [3, 2], strides: [1, 3] }), 'data/0': floats }));
    expect(turned.shape('w')).toEqual([3, 2]);
    expect(turned.tensor('w').toList()).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
  });
});

test('a zip file may say its sizes in 8 bytes, as those above 4 GiB do', () => {
  const file = openTorchFile(zip('wide.bin', { 'data.pkl': tensorPickle(), 'data/0': floats }, { wide: true }));
  expect(file.tensor('w').toList()).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
});

describe('what is refused', () => {
  test('a pickle with code in it, by the name of what it calls', () => {
    const refusals = ['cposix\nsystem\n', 'c__builtin__\neval\n', 'cargparse\nNamespace\n'].map((call) => {
      const pickle = Buffer.from(`\x80\x02${call}(${text('rm -rf /')}tR.`, 'latin1');
      return refusal(zip('code.bin', { 'data.pkl': pickle }));
    });
    expect(refusals.map((message) => message.split('\n')[0])).toEqual([
      'CheckpointError: code.bin: uses posix.system, which tensors do not need',
      'CheckpointError: code.bin: uses __builtin__.eval, which tensors do not need',
      'CheckpointError: code.bin: uses argparse.Namespace, which tensors do not need',
    ]);
  });

  test('a class named by what the pickle computed', () => {
    const pickle = Buffer.from('\x80\x04\x8c\x05posix\x8c\x06system\x93.', 'latin1');
    expect(refusal(zip('stack.bin', { 'data.pkl': pickle }))).toMatchInlineSnapshot(`
      "CheckpointError: stack.bin: uses posix.system, which tensors do not need
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
  });

  test('objects, storages without tensors and other values', () => {
    expect(refusal(zip('int.bin', { 'data.pkl': Buffer.from(`\x80\x02}${text('step')}K\x07s.`, 'latin1') }))).toMatchInlineSnapshot(`
      "CheckpointError: int.bin: "step" is not a tensor
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('list.bin', { 'data.pkl': Buffer.from('\x80\x02].', 'latin1') }))).toMatchInlineSnapshot(`
      "CheckpointError: list.bin: holds something else than a dictionary of tensors
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('object.bin', { 'data.pkl': Buffer.from('\x80\x02(K\x01o.', 'latin1') }))).toMatchInlineSnapshot(`
      "CheckpointError: object.bin: its pickle has the instruction 0x6f, which tensors do not need
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
  });

  test('tensors and dictionaries that are made of something else', () => {
    const forged = Buffer.from(`\x80\x02}${text('w')}ctorch._utils\n_rebuild_tensor_v2\n(K\x05K\x00))tRs.`, 'latin1');
    expect(refusal(zip('forged.bin', { 'data.pkl': forged }))).toMatchInlineSnapshot(`
      "CheckpointError: forged.bin: a tensor is not described as torch.save does
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    const items = Buffer.from('\x80\x02ccollections\nOrderedDict\n(]tR.', 'latin1');
    expect(refusal(zip('items.bin', { 'data.pkl': items }))).toMatchInlineSnapshot(`
      "CheckpointError: items.bin: a dictionary is not described as torch.save does
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
  });

  test('files that are cut short at any byte', () => {
    const whole = readFileSync(written);
    const path = join(scratch, 'cut.bin');
    for (let bytes = 0; bytes < whole.length; bytes += 97) {
      writeFileSync(path, whole.subarray(0, bytes));
      expect(refusal(path), String(bytes)).toContain('cut.bin: cut short or no zip file');
    }
    writeFileSync(path, whole);
    truncateSync(path, whole.length - 1);
    expect(refusal(path)).toMatchInlineSnapshot(`
      "CheckpointError: cut.bin: cut short or no zip file: no directory at the end of its 22710 bytes
      hint: the file is damaged or was not written by torch.save; fetch or save it again"
    `);
  });

  test('tensors that their storage cannot hold', () => {
    expect(refusal(zip('short.bin', { 'data.pkl': tensorPickle(), 'data/0': floats.subarray(4) }))).toMatchInlineSnapshot(`
      "CheckpointError: short.bin: data/0 holds 20 bytes, 6 x float32 need 24
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('beyond.bin', { 'data.pkl': tensorPickle({ first: 1 }), 'data/0': floats }))).toMatchInlineSnapshot(`
      "CheckpointError: beyond.bin: a tensor [2, 3] at 1 does not fit into its storage of 6
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('overlap.bin', { 'data.pkl': tensorPickle({ strides: [0, 1] }), 'data/0': floats }))).toMatchInlineSnapshot(`
      "CheckpointError: overlap.bin: a tensor [2, 3] has the strides [0, 1], and so gaps or overlaps
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('none.bin', { 'data.pkl': tensorPickle() }))).toMatchInlineSnapshot(`
      "CheckpointError: none.bin: no data/0 in it
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
    expect(refusal(zip('type.bin', { 'data.pkl': tensorPickle({ type: 'QInt8Storage' }), 'data/0': floats }))).toMatchInlineSnapshot(`
      "CheckpointError: type.bin: uses torch.QInt8Storage, which tensors do not need
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
    expect(refusal(zip('packed.bin', { 'data.pkl': tensorPickle(), 'data/0': floats }, { method: 8 }))).toMatchInlineSnapshot(`
      "CheckpointError: packed.bin: data.pkl is compressed
      hint: the file is damaged or holds more than tensors; fetch or save it again"
    `);
  });

  test('a pickle that ends early or takes from an empty stack', () => {
    expect(refusal(zip('end.bin', { 'data.pkl': tensorPickle().subarray(0, 40) }))).toMatchInlineSnapshot(`
      "CheckpointError: end.bin: its pickle is cut short: byte 41 is needed, it has 40
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
    expect(refusal(zip('empty.bin', { 'data.pkl': Buffer.from('\x80\x02s.', 'latin1') }))).toMatchInlineSnapshot(`
      "CheckpointError: empty.bin: its pickle takes from an empty stack
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
  });

  test('every byte of a pickle may be wrong without anything but a refusal or a reading', () => {
    const pickle = tensorPickle();
    for (let at = 0; at < pickle.length; at++) {
      for (const value of [0, 0x2e, 0x51, 0x52, 0xff]) {
        const damaged = Buffer.from(pickle);
        damaged[at] = value;
        expect(refusal(zip('fuzz.bin', { 'data.pkl': damaged, 'data/0': floats })), `${at}: ${value}`).toMatch(/^(CheckpointError: |read)/);
      }
    }
  });
});

describe('what torch.save wrote before PyTorch 1.6', () => {
  const folder = join(import.meta.dirname, '../reference/torch-file-old');
  const whole = readFileSync(join(folder, 'pytorch_model.bin'));
  const damaged = (name: string, bytes: Buffer): string => {
    const path = join(scratch, name);
    writeFileSync(path, bytes);
    return path;
  };

  test('is read with its names, dtypes, shapes and values, storages that are shared and numbers at odd places included', () => {
    const file = openTorchFile(join(folder, 'pytorch_model.bin'));
    const expected = openSafetensors(join(folder, 'expected.safetensors'));
    expect([...file.names].sort()).toEqual([...expected.names].sort());
    for (const name of expected.names) {
      expect([name, file.dtype(name), file.shape(name)]).toEqual([name, expected.dtype(name), expected.shape(name)]);
      expect(file.tensor(name).equal(expected.tensor(name)), name).toBe(true);
    }
  });

  test('is refused where it is cut short', () => {
    for (let length = 15; length < whole.length; length += 11) {
      expect(refusal(damaged('short.bin', whole.subarray(0, length))), String(length)).toMatch(/^CheckpointError: short.bin: .*cut short/);
    }
  });

  test('may have any byte wrong without anything but a refusal or a reading', () => {
    for (let at = 0; at < whole.length; at += 5) {
      for (const value of [0x2e, 0xff]) {
        const bytes = Buffer.from(whole);
        bytes[at] = value;
        expect(refusal(damaged('wrong.bin', bytes)), `${at}: ${value}`).toMatch(/^(CheckpointError: |read)/);
      }
    }
  });
});

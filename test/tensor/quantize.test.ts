import { join } from 'node:path';
import { expect, test } from 'vitest';
import { blockFormats } from '../../src/tensor/dequantize.ts';
import { quantizers } from '../../src/tensor/quantize.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import '../matchers.ts';

const expected = openSafetensors(join(import.meta.dirname, '../reference/gguf/quantized.safetensors'));
const values = expected.tensor('values');

test.each(Object.entries(quantizers))('%s makes the bytes that the gguf package makes', (name, { values: block, encode }) => {
  const made = encode(values.reshape(-1, block));
  expect(made.reshape(...expected.shape(name))).toMatchTensor(expected.tensor(name), { atol: 0 });
});

test.each(Object.entries(quantizers))('%s packs as many values in as many bytes as are read', (name, { values: block, bytes }) => {
  expect({ values: block, bytes }).toMatchObject({
    values: blockFormats[name as keyof typeof quantizers].values,
    bytes: blockFormats[name as keyof typeof quantizers].bytes,
  });
});

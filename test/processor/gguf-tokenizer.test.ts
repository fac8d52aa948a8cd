import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { readTemplate } from '../../src/processor/template-files.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { reference, referenceFolder, tokenizerOf } from './reference.ts';

const folder = mkdtempSync(join(tmpdir(), 'tinyllava-gguf-tokenizer-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(referenceFolder, 'gguf', `tokenizer-${name}.gguf`);

describe.each(['byte-level', 'prepend'] as const)('the %s tokenizer out of a GGUF file', async (name) => {
  const tokenizer = await Tokenizer.open(file(name));
  const original = tokenizerOf(name);

  test.each(reference.tokenizers[name].texts)('gives the ids of Python for $text', ({ text, ids, decoded }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  test('has the special tokens of the original', () => {
    const facts = ({ special, bosToken, eosToken, padToken, unkToken, addsBos, size }: Tokenizer) => ({
      special: [...special].map(([text, { id }]) => [text, id]),
      tokens: [bosToken, eosToken, padToken, unkToken, addsBos, size],
    });
    expect(facts(tokenizer)).toEqual(facts(original));
  });

  test('brings its chat template', async () => {
    expect(await readTemplate(file(name), tokenizer.files.config)).toContain("{{ message['role'] + ': '");
  });
});

test('a tokenizer that is not known is refused by name', async () => {
  const refused = async (from: string, to: string): Promise<string> => {
    const path = join(folder, 'odd.gguf');
    writeFileSync(path, Buffer.from(readFileSync(file('byte-level')).toString('latin1').replace(from, to), 'latin1'));
    return Tokenizer.open(path).then(
      () => 'opened',
      ({ message, hint }: TinyLlavaError) => `${message.replace(`${folder}/`, '')}\n${hint ?? ''}`,
    );
  };
  expect(await refused('gpt-2', 'gpt-x')).toMatchInlineSnapshot(`
    "odd.gguf: unknown pre-tokenizer "gpt-x"
    known: gpt-2, phi-2, smollm, llama-bpe, qwen2, stablelm2, gpt-4o"
  `);
  expect(await refused('gpt2', 'gptx')).toMatchInlineSnapshot(`
    "odd.gguf: unknown tokenizer "gptx"
    known: gpt2, llama"
  `);
  expect(await refused('ggml.merges', 'ggml.mergez')).toMatchInlineSnapshot(`
    "odd.gguf: no tokenizer.ggml.merges
    "
  `);
});

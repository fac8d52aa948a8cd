import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { convert } from '../../src/export/convert.ts';
import { tokenizerFields } from '../../src/export/gguf/tokenizer.ts';
import { readTemplate } from '../../src/processor/template-files.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { languageFolder, scratchFolder, tokenizers } from './models.ts';

const scratch = scratchFolder();
const texts = [
  'Hello world, 12 times over!',
  '  two  spaces ',
  'naïve café ▁ 猫 😀\n\ntab\tend',
  "I've been told he's there: 3.14 + 2,000",
  '',
];

test.each(['bytes', 'pieces', 'metaspace'] as const)('a tokenizer of %s comes back out of a GGUF file with the same ids', async (kind) => {
  const folder = join(scratch, kind);
  await languageFolder(folder, { type: 'llama', hiddenSize: 32, intermediateSize: 32, numHiddenLayers: 1, numAttentionHeads: 2 }, kind);
  const { notes } = await convert(folder, `${folder}.gguf`, { to: 'gguf', template: "{{ messages[0]['content'] }}{# \n #}" });
  const [before, after] = [await Tokenizer.open(folder), await Tokenizer.open(`${folder}.gguf`)];
  expect(notes.map((note) => note.slice(0, 42))).toEqual(kind === 'metaspace' ? ['llama.cpp puts a space before every text, '] : []);
  for (const text of texts)
    if (kind !== 'metaspace' || !text.startsWith(' ')) expect(after.encode(text), text).toEqual(before.encode(text));
  const ids = before.encode(texts.join(' '));
  expect(after.decode(ids)).toBe(before.decode(ids));
  const specials = ({ bosToken, eosToken, padToken, addsBos, special }: Tokenizer) => [
    bosToken,
    eosToken,
    padToken,
    addsBos,
    [...special.keys()].sort(),
  ];
  expect(specials(after)).toEqual(specials(before));
  expect(await readTemplate(`${folder}.gguf`, after.files.config)).toBe("{{ messages[0]['content'] }}{# \n #}");
});

test('rows of the embeddings without a token are unused ones, and tokens beyond them are left out', async () => {
  const tokenizer = await Tokenizer.open(join(import.meta.dirname, '../reference', tokenizers.bytes));
  const lists = (rows: number): [unknown, unknown] => {
    const fields = tokenizerFields(tokenizer, { rows, template: undefined });
    return [fields['tokenizer.ggml.tokens']?.value, fields['tokenizer.ggml.token_type']?.value];
  };
  const [tokens, types] = lists(tokenizer.size + 2) as [string[], number[]];
  expect([tokens.length, types.length]).toEqual([tokenizer.size + 2, tokenizer.size + 2]);
  expect(tokens.slice(-2)).toEqual([`[PAD${tokenizer.size}]`, `[PAD${tokenizer.size + 1}]`]);
  expect(types.slice(-2)).toEqual([5, 5]);
  expect((lists(7) as [string[], number[]])[0]).toHaveLength(7);
});

/** The way in which published tokenizers cut words, and llama.cpp's name of it. */
const published: Readonly<Record<string, { readonly steps: unknown; readonly normalizer?: object; readonly model?: object }>> = {
  'llama-bpe': {
    steps: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: {
            Regex:
              "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    model: { ignore_merges: true },
  },
  qwen2: {
    steps: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: {
            Regex:
              "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    normalizer: { type: 'NFC' },
  },
  smollm: {
    steps: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
  },
  'gpt-2': { steps: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true } },
};

test.each(Object.entries(published))('words cut as %s does are told apart', async (name, { steps, normalizer, model }) => {
  const folder = join(import.meta.dirname, '../reference', tokenizers.bytes);
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  const files = { json: { ...json, pre_tokenizer: steps, normalizer: normalizer ?? null, model: { ...json.model, ...model } }, config: {} };
  const fields = tokenizerFields(new Tokenizer(files), { rows: 430, template: undefined });
  expect(fields['tokenizer.ggml.pre']).toEqual({ type: 'string', value: name });
});

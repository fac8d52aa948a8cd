import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { reference, referenceFolder, tokenizerNames, tokenizerOf } from './reference.ts';

const empty = (): Promise<string> => mkdtemp(join(tmpdir(), 'tinyllava-tokenizer-'));

describe.each(tokenizerNames)('the %s tokenizer', (name) => {
  const tokenizer = tokenizerOf(name);

  test.each(reference.tokenizers[name].texts)('gives the ids of Python for $text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  test.each(reference.tokenizers[name].texts)('decodes the ids of $text as Python does', ({ ids, decoded }) => {
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  test('never makes a special token from text', () => {
    const special = new Set([...tokenizer.special.values()].map(({ id }) => id));
    const ids = tokenizer.encode([...tokenizer.special.keys()].join('x'));
    expect(ids.filter((id) => special.has(id) && id !== tokenizer.idOf('<unk>'))).toEqual([]);
  });

  test('saves what it opened', async () => {
    const folder = await empty();
    await tokenizer.save(folder);
    const saved = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
    const original = JSON.parse(await readFile(join(referenceFolder, `processor-tokenizer-${name}`, 'tokenizer.json'), 'utf8'));
    expect(saved).toEqual(original);
  });
});

test('text that goes on from text gets no space before it', () => {
  for (const name of ['prepend', 'metaspace'] as const) {
    const tokenizer = tokenizerOf(name);
    const whole = tokenizer.encode('ASSISTANT: blue');
    expect([...tokenizer.encode('ASSISTANT:'), ...tokenizer.encode(' blue', { after: 'text' })]).toEqual(whole);
  }
  const spaces = (name: 'prepend' | 'metaspace') =>
    (['nothing', 'special', 'text'] as const).map((after) =>
      tokenizerOf(name)
        .tokenOf(tokenizerOf(name).encode('blue', { after })[0] ?? 0)
        ?.startsWith('▁'),
    );
  expect({ prepend: spaces('prepend'), metaspace: spaces('metaspace') }).toEqual({
    prepend: [true, true, false],
    metaspace: [true, false, false],
  });
});

test('numbers of every script are cut as digits', () => {
  const ids = (individual_digits: boolean): number[] => {
    const model = { type: 'BPE', vocab: { a: 0, '²': 1, '²²': 2, 'a²': 3 }, merges: ['² ²', 'a ²'] };
    const json = { added_tokens: [], model, pre_tokenizer: { type: 'Digits', individual_digits } };
    return new Tokenizer({ json, config: {} }).encode('a²²');
  };
  expect([ids(true), ids(false)]).toEqual([
    [0, 1, 1],
    [0, 2],
  ]);
});

test('text goes on behind an added token that is not special as behind a special one', () => {
  const { json, config } = tokenizerOf('prepend').files;
  const plain = json.added_tokens.map((token) => (token.content === '<|im_end|>' ? { ...token, special: false } : token));
  const tokenizer = new Tokenizer({ json: { ...json, added_tokens: plain }, config });
  const end = tokenizer.requireId('<|im_end|>');
  expect(tokenizer.encode('blue<|im_end|>red', { after: 'text' })).toEqual([
    ...tokenizer.encode('blue', { after: 'text' }),
    end,
    ...tokenizer.encode('red'),
  ]);
});

test('only a tokenizer that puts bos before every text says so', () => {
  expect(tokenizerNames.map((name) => [name, tokenizerOf(name).addsBos, tokenizerOf(name).bosToken])).toEqual([
    ['byte-level', false, undefined],
    ['prepend', true, '<s>'],
    ['metaspace', true, '<s>'],
  ]);
});

test('ids beyond the vocabulary decode to nothing', () => {
  const tokenizer = tokenizerOf('byte-level');
  expect(tokenizer.decode([...tokenizer.encode('Hello'), tokenizer.size, 99_999, ...tokenizer.encode(' world')])).toBe('Hello world');
  expect(tokenizer.decode([])).toBe('');
});

test('spaces before punctuation are kept whatever the config of a byte-pair tokenizer says, as in transformers 5', () => {
  const { json, config } = tokenizerOf('byte-level').files;
  const tokenizer = new Tokenizer({ json, config: { ...config, clean_up_tokenization_spaces: true } });
  expect(tokenizer.decode(tokenizer.encode('Yes , it is !'))).toBe('Yes , it is !');
});

test('special tokens are decoded only when asked for', () => {
  const tokenizer = tokenizerOf('prepend');
  const ids = [...tokenizer.encode('Hello'), tokenizer.requireId('</s>')];
  expect(tokenizer.decode(ids)).toBe('Hello');
  expect(tokenizer.decode(ids, { keepSpecial: true })).toBe('Hello</s>');
});

test('a special token that is added takes the next id and is known after saving', async () => {
  const added = tokenizerOf('byte-level').withSpecialToken('<box>');
  expect(added.idOf('<box>')).toBe(tokenizerOf('byte-level').size);
  expect(added.withSpecialToken('<box>')).toBe(added);
  expect(added.encode('a <box>')).not.toContain(added.idOf('<box>'));
  const folder = await empty();
  await added.save(folder);
  expect((await Tokenizer.open(folder)).idOf('<box>')).toBe(added.idOf('<box>'));
});

test('requiring a token that is not there names it', () => {
  expect(() => tokenizerOf('prepend').requireId('<box>')).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the tokenizer has no token "<box>"]`,
  );
});

test('a folder without a tokenizer, or with a broken one, is one clear error', async () => {
  const folder = await empty();
  await expect(Tokenizer.open(folder)).rejects.toThrow(`${folder} has no tokenizer.json`);
  await writeFile(join(folder, 'tokenizer.json'), '{"model": {}}');
  await expect(Tokenizer.open(folder)).rejects.toThrow(
    /tokenizer\.json is not what it should be: ✖ expected a vocabulary\n {2}→ at model\.vocab/,
  );
  await writeFile(join(folder, 'tokenizer.json'), '{"model": ');
  await expect(Tokenizer.open(folder)).rejects.toThrow(/tokenizer\.json is not what it should be: Unexpected end of JSON input/);
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ model: { type: 'BPE', vocab: { a: 0 }, merges: [] }, pre_tokenizer: { type: 'Martian' } }),
  );
  await expect(Tokenizer.open(folder)).rejects.toThrow(`${folder}/tokenizer.json cannot be used: Unknown PreTokenizer type: Martian`);
});

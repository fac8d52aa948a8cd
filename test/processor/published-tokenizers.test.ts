import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tokenizerNames, tokenizersFolder } from '../../scripts/setup/tokenizers.mjs';
import { ImageProcessor } from '../../src/processor/image.ts';
import type { Message } from '../../src/processor/message.ts';
import { Processor, unlabelled } from '../../src/processor/processor.ts';
import { readTemplate } from '../../src/processor/template-files.ts';
import { namedTemplate } from '../../src/processor/templates.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { asMessages, type PythonMessage, referenceFolder } from './reference.ts';

interface Case {
  readonly text: string;
  readonly prompt: string;
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
}

interface Golden {
  readonly size: number;
  readonly addsBos: boolean;
  readonly ids: readonly (readonly number[])[];
  readonly raw: readonly (readonly number[])[];
  /** Where a text does not come back as it was. */
  readonly decoded: Readonly<Record<string, string>>;
  readonly templates: Readonly<Record<string, { readonly source: string | null; readonly cases: Readonly<Record<string, Case | null>> }>>;
}

/** What Python makes of texts and conversations; see scripts/make-tokenizer-references.py. */
const golden: {
  readonly texts: readonly string[];
  /** Texts in which special tokens count. */
  readonly raw: readonly string[];
  readonly conversations: Readonly<Record<string, readonly PythonMessage[]>>;
  readonly tokenizers: Readonly<Record<string, Golden>>;
} = JSON.parse(readFileSync(join(referenceFolder, 'tokenizers.json'), 'utf8'));

const folder = tokenizersFolder(process.env);
const fetched = existsSync(join(folder, 'complete.json'));
/** SmolLM2's comes out of its GGUF file. */
const smolLm2 = 'smollm-2';
const placeOf = (name: string): string | undefined =>
  name === smolLm2 ? process.env['TINYLLAVA_SMOLLM2_GGUF'] : fetched ? join(folder, name) : undefined;
const image = new ImageProcessor({ size: { height: 16, width: 16 } });
const answersOf = (messages: readonly Message[]): string[] =>
  messages.filter(({ role }) => role === 'assistant').map(({ content }) => String(content));

test('every tokenizer that is fetched has a reference', () => {
  expect(Object.keys(golden.tokenizers)).toEqual([...tokenizerNames, smolLm2].sort());
});

const found = Object.keys(golden.tokenizers).map((name) => [name, placeOf(name)] as const);

test.skipIf(found.every(([, place]) => place !== undefined))(
  'not compared: tokenizers that are not there (node scripts/fetch-tokenizers.mjs; TINYLLAVA_SMOLLM2_GGUF)',
  (context) => context.skip(),
);

describe.each(found.filter((pair): pair is [string, string] => pair[1] !== undefined))('the tokenizer of %s', (name, place) => {
  const { size, addsBos, ids, raw, decoded, templates } = golden.tokenizers[name] as Golden;
  // vocabularies of a quarter of a million tokens: one at a time in memory
  let tokenizer: Tokenizer;
  let withImages: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.open(place);
    withImages = tokenizer.withSpecialToken('<image>');
  }, 300_000);
  afterAll(() => {
    tokenizer = withImages = undefined as never;
  });

  test('has the size and the bos of Python', () => expect([tokenizer.size, tokenizer.addsBos]).toEqual([size, addsBos]));

  test('reads texts as Python does', () => {
    const byText = (all: readonly (readonly number[])[]) => Object.fromEntries(golden.texts.map((text, i) => [text, all[i]]));
    expect(byText(golden.texts.map((text) => tokenizer.encode(text)))).toEqual(byText(ids));
  });

  test('writes texts as Python does', () => {
    expect(ids.map((row) => tokenizer.decode(row))).toEqual(golden.texts.map((text, i) => decoded[i] ?? text));
  });

  test('reads prompts with special tokens, after bos where there is one, as Python does', () => {
    const processor = new Processor({ tokenizer: withImages, image, template: '{{ messages[0].content }}', imageTokens: 1 });
    const found = golden.raw.map((text) => {
      const images = text.split('<image>').slice(1);
      return [...processor.encodeText(text, images).ids];
    });
    expect(found).toEqual(raw);
  });

  describe.each(Object.entries(templates))('with the template %s', (key, { source, cases }) => {
    const open = async (imageTokens: number): Promise<Processor> => {
      const own = await readTemplate(place, tokenizer.files.config);
      const template = source === null ? (own ?? '') : namedTemplate(key, withImages);
      // Gemma 3's template has a name of its own for an image
      const imageToken = template.includes('<start_of_image>') ? '<start_of_image>' : '<image>';
      return new Processor({ tokenizer: withImages, image, template, imageTokens, imageToken });
    };

    if (source !== null) {
      test('is the one that Python rendered (else run scripts/make-tokenizer-references.py)', () =>
        expect(namedTemplate(key, withImages)).toBe(source));
    }

    test.each(Object.entries(cases))('renders and reads %s as Python does', async (caseName, wanted) => {
      const processor = await open(1);
      const messages = asMessages(golden.conversations[caseName] ?? []);
      if (wanted === null) {
        expect(() => processor.encode(messages, { train: true })).toThrow(/the chat template refuses the conversation/);
        return;
      }
      expect(processor.template.render(messages).text).toBe(wanted.text);
      expect(processor.template.render(messages.slice(0, -1), { generationPrompt: true }).text).toBe(wanted.prompt);
      const trained = processor.encode(messages, { train: true });
      expect([...trained.ids]).toEqual(wanted.ids);
      expect([...processor.encode(messages.slice(0, -1)).ids]).toEqual(wanted.promptIds);
      expect([...trained.ids].slice(0, wanted.promptIds.length)).toEqual(wanted.promptIds);

      // every answer is learned whole, and nothing else but what ends it
      const learned = [...trained.labels].filter((label) => label !== unlabelled);
      const said = answersOf(messages).join('').replace(/\s/g, '');
      const thoughts = /<think>\s*<\/think>\s*/g;
      expect(tokenizer.decode(learned).replace(thoughts, '').replace(/\s/g, '')).toBe(said);
    });

    test('an image takes as many tokens as the model says', async () => {
      const messages = asMessages(golden.conversations['several images in two turns'] ?? []);
      const [one, five] = await Promise.all([1, 5].map(async (count) => (await open(count)).encode(messages, { train: true }).ids.length));
      expect((five ?? 0) - (one ?? 0)).toBe(3 * 4);
    });
  });
});

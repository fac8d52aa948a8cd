import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ImageProcessor } from '../../src/processor/image.ts';
import type { Message } from '../../src/processor/message.ts';
import { type Example, Processor } from '../../src/processor/processor.ts';
import { templates } from '../../src/processor/templates.ts';
import type { Tokenizer } from '../../src/processor/tokenizer.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import '../matchers.ts';
import { caseNames, chattingTokenizerOf, conversation, reference, referenceFolder, tokenizerNames, tokenizerOf } from './reference.ts';

const image = new ImageProcessor({ size: { height: 24, width: 24 } });
const processorOf = (tokenizer: Tokenizer, template: string, imageTokens = 1): Processor =>
  new Processor({ tokenizer, image, template, imageTokens });
const names = Object.keys(templates);

/** The example as text, with [what is learned] in brackets. */
function shown({ tokenizer }: Processor, { ids, labels }: Example): string {
  let text = '';
  for (let from = 0; from < ids.length; ) {
    const learned = labels[from] !== -100;
    let to = from;
    while (to < ids.length && (labels[to] !== -100) === learned) to++;
    const piece = tokenizer.decode(ids.slice(from, to), { keepSpecial: true });
    text += learned ? `[${piece}]` : piece;
    from = to;
  }
  return text;
}

const question = (text: string, ...images: string[]): Message => ({
  role: 'user',
  content: [...images.map((path) => ({ type: 'image' as const, image: path })), { type: 'text', text }],
});
const answer = (text: string): Message => ({ role: 'assistant', content: text });

describe.each(tokenizerNames)('with the %s tokenizer', (tokenizerName) => {
  const tokenizer = chattingTokenizerOf(tokenizerName);

  describe.each(names)('and template %s', (name) => {
    const processor = processorOf(tokenizer, name);

    test.each(caseNames)('%s has the ids that Python gives the rendered text', (caseName) => {
      const golden = reference.tokenizers[tokenizerName].templates[name]?.cases[caseName];
      expect([...processor.encode(conversation(caseName), { train: true }).ids]).toEqual(golden?.ids);
    });

    test.each([...caseNames, 'special tokens typed by people', 'answers that merge with what is before', 'four answers'])(
      '%s is trained on what generation is given',
      (caseName) => {
        const messages = awkward[caseName] ?? conversation(caseName);
        const trained = processor.encode(messages, { train: true });
        for (const [i, message] of messages.entries()) {
          if (message.role !== 'assistant') continue;
          const prompt = processor.encode(messages.slice(0, i));
          expect([...trained.ids.slice(0, prompt.ids.length)]).toEqual([...prompt.ids]);
          if (name !== 'plain') expect(trained.labels[prompt.ids.length - 1]).toBe(-100); // which has nothing between two captions
          expect(trained.labels[prompt.ids.length]).toBe(trained.ids[prompt.ids.length]);
          expect(prompt.labels.every((label) => label === -100)).toBe(true);
        }
      },
    );

    test('a long conversation is labelled as the short one that it begins with', () => {
      const messages = awkward['four answers'] ?? [];
      const long = processor.encode(messages, { train: true });
      const short = processor.encode(messages.slice(0, 4), { train: true });
      expect([...long.labels.slice(0, short.labels.length)]).toEqual([...short.labels]);
      expect(long.labels.slice(short.labels.length).filter((label) => label !== -100).length).toBeGreaterThan(0);
    });

    test('every answer is learned with its end, and nothing else is', () => {
      const messages = [question('Hello', 'a.png'), answer('Yes'), question('No', 'b.png'), answer('the red')];
      const learned = shown(processor, processor.encode(messages, { train: true })).match(/\[.*?\]/gs);
      const end =
        processor.template.source.match(/'<\/s>'|<\|endoftext\|>|<eos>|<\|im_end\|>|<\|end\|>|<\|eot_id\|>/)?.[0]?.replaceAll("'", '') ??
        (name === 'plain' ? '\n' : tokenizer.eosToken);
      expect(learned?.map((piece) => piece.slice(1, -1).trimStart())).toEqual(
        [`Yes${end}`, `the red${end}`].map((text) => text.trimStart()),
      );
    });
  });
});

const awkward: Readonly<Record<string, Message[]>> = {
  'special tokens typed by people': [
    question('What is <image> and </s>?', 'a.png'),
    answer('Not <|im_end|> yet </s>'),
    question('<s>'),
    answer('<|endoftext|>'),
  ],
  'four answers': ['a', 'b', 'c', ' d \n'].flatMap((text) => [
    question(`What ${text}`, ...(text === 'b' ? ['b.png'] : [])),
    answer(`${text} it is`),
  ]),
  'answers that merge with what is before': [question('Count:\n'), answer('\n\n12'), question('More'), answer('  tion')],
};

test('special tokens that people type stay text', () => {
  const processor = processorOf(tokenizerOf('prepend'), 'llama');
  const { ids } = processor.encode(awkward['special tokens typed by people'] ?? [], { train: true });
  const count = (token: string): number => ids.filter((id) => id === processor.tokenizer.requireId(token)).length;
  expect({ bos: count('<s>'), eos: count('</s>'), image: count('<image>'), end: count('<|im_end|>') }).toEqual({
    bos: 1,
    eos: 2,
    image: 1,
    end: 0,
  });
  expect(shown(processor, processor.encode(awkward['special tokens typed by people'] ?? [], { train: true }))).toContain(
    '<image> \nWhat is <image> and </s>? ASSISTANT:[Not',
  );
});

test('what is learned, shown', () => {
  const processor = processorOf(tokenizerOf('prepend'), 'llama');
  const text = shown(
    processor,
    processor.encode([question('Is it red?', 'a.png'), answer('No.'), question('Sure?'), answer('Yes')], { train: true }),
  );
  expect(text.slice(text.indexOf('USER'))).toMatchInlineSnapshot(`
    "USER: <image> 
    Is it red? ASSISTANT:[No.</s>]USER: Sure? ASSISTANT:[Yes</s>]"
  `);
  const chat = processorOf(tokenizerOf('byte-level'), 'chatml');
  expect(shown(chat, chat.encode([question('Is it red?'), answer('No.')], { train: true }))).toMatchInlineSnapshot(`
    "<|im_start|>user
    Is it red?<|im_end|>
    <|im_start|>assistant
    [No.<|im_end|>]
    "
  `);
});

test('each image becomes as many image tokens as the model makes of it, wherever it stands', () => {
  const processor = processorOf(tokenizerOf('byte-level'), 'tiny', 3);
  const messages: Message[] = [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'a' },
        { type: 'image', image: '1.png' },
        { type: 'image', image: '2.png' },
      ],
    },
    answer('b'),
    question('c', '3.png'),
    {
      role: 'assistant',
      content: [
        { type: 'text', text: 'd' },
        { type: 'image', image: '4.png' },
      ],
    },
  ];
  const example = processor.encode(messages, { train: true });
  expect(example.images.map(({ source }) => source)).toEqual(['1.png', '2.png', '3.png', '4.png']);
  expect(shown(processor, example).replaceAll('<image><image><image>', 'III')).toMatchInlineSnapshot(`
    "aIIIIII
    [b<|im_end|>]III
    c
    [d]III[<|im_end|>]"
  `);
});

test('an example is cut to a length, and never inside an image', () => {
  const processor = processorOf(tokenizerOf('byte-level'), 'tiny', 4);
  const example = processor.encode([question('a', '1.png', '2.png'), answer('b')], { train: true });
  const lengths = Array.from({ length: example.ids.length + 2 }, (_, max) => {
    const { ids, labels, images } = processor.truncate(example, max);
    return [ids.length, labels.length, images.length].join();
  });
  expect(lengths).toEqual([
    '0,0,0',
    '0,0,0',
    '0,0,0',
    '0,0,0',
    '4,4,1',
    '5,5,1',
    '5,5,1',
    '5,5,1',
    '5,5,1',
    '9,9,2',
    '10,10,2',
    '11,11,2',
    '12,12,2',
    '13,13,2',
    '14,14,2',
    '14,14,2',
  ]);
});

test('text without a template marks images by the image token and begins as the tokenizer wants', () => {
  const processor = processorOf(tokenizerOf('prepend'), 'llama', 2);
  const { tokenizer } = processor;
  const { ids } = processor.encodeText('<image>\nHello</s>', ['a.png']);
  const img = processor.imageTokenId;
  expect([...ids]).toEqual([
    tokenizer.requireId('<s>'),
    img,
    img,
    ...tokenizer.encode('\nHello', { after: 'special' }),
    tokenizer.requireId('</s>'),
  ]);
  expect(() => processor.encodeText('Hello', ['a.png'])).toThrowErrorMatchingInlineSnapshot(
    `[DataError: the text has 0 <image> for 1 image]`,
  );
});

test('a template that loses an image is an error', () => {
  const processor = processorOf(tokenizerOf('byte-level'), "{% for m in messages %}{{ m.content | replace('<image>', '') }}{% endfor %}");
  expect(() => processor.encode([question('Hi', 'a.png')])).toThrowErrorMatchingInlineSnapshot(
    `[DataError: the text has 0 <image> for 1 image]`,
  );
});

test('a template that rewrites earlier turns is refused unless it marks the answers', () => {
  const rewrites =
    "{% for m in messages %}{{ m.role }}:{{ '' if m.role == 'assistant' and not loop.last else m.content }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
  const messages = [question('a'), answer('b'), question('c'), answer('d')];
  expect(() => processorOf(tokenizerOf('byte-level'), rewrites).encode(messages, { train: true })).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the chat template writes earlier turns differently once later ones are there, so what the assistant said cannot be found]`,
  );
  expect(processorOf(tokenizerOf('byte-level'), rewrites).encode(messages).ids.length).toBeGreaterThan(0);
  const marks = rewrites.replace("{{ ''", "{% generation %}{{ ''").replace('m.content }}', 'm.content }}{% endgeneration %}');
  const marked = processorOf(tokenizerOf('byte-level'), marks.replace("m.role == 'assistant' and not loop.last", 'not loop.last'));
  expect(shown(marked, marked.encode(messages, { train: true }))).toMatchInlineSnapshot(`"user:assistant:user:assistant:[d]"`);
});

test('an answer is over after eos and after what the template ends it with', () => {
  const stops = (tokenizerName: 'byte-level' | 'prepend', template: string): (string | undefined)[] => {
    const processor = processorOf(tokenizerOf(tokenizerName), template);
    return processor.stopIds.map((id) => processor.tokenizer.tokenOf(id));
  };
  expect([
    stops('byte-level', 'phi'),
    stops('byte-level', 'chatml'),
    stops('prepend', 'llama'),
    stops('prepend', 'plain'),
  ]).toMatchInlineSnapshot(`
    [
      [
        "<|im_end|>",
        "<|endoftext|>",
      ],
      [
        "<|im_end|>",
      ],
      [
        "</s>",
      ],
      [
        "</s>",
      ],
    ]
  `);
});

test('a saved processor opens as it was', async () => {
  const words = splitWords('What color is the shape? a blue rectangle.');
  const processor = processorOf(wordLevelTokenizer(words), 'tiny', 16);
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-processor-'));
  await processor.save(folder);
  expect((await readdir(folder)).sort()).toEqual([
    'chat_template.jinja',
    'preprocessor_config.json',
    'processor_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const opened = await Processor.open(folder, { imageTokens: 16 });
  const messages = [question('What color is the shape?', 'a.png'), answer('blue')];
  expect(opened.encode(messages, { train: true })).toEqual(processor.encode(messages, { train: true }));
  expect(opened.image.config).toEqual(processor.image.config);
  expect(JSON.parse(await readFile(join(folder, 'processor_config.json'), 'utf8'))).toEqual({
    processor_class: 'LlavaProcessor',
    image_token: '<image>',
    patch_size: 6,
    num_additional_image_tokens: 0,
    vision_feature_select_strategy: 'full',
  });
});

test("what transformers' LlavaProcessor saved opens and gives its ids and pixels", async () => {
  const folder = join(referenceFolder, 'processor-llava');
  const expected = openSafetensors(join(folder, 'expected.safetensors'));
  const processor = await Processor.open(folder, { imageTokens: 4 });
  const path = join(referenceFolder, 'processor-images/rgb.png');
  const { ids, images } = processor.encode([question('What color is the shape?', path)]);
  expect([...ids]).toEqual([...(expected.tensor('ids').toArray() as Int32Array)]);
  for (const { source } of images)
    expect((await processor.image.load(source)).squeeze(0)).toMatchTensor(expected.tensor('pixels'), { atol: 1.01 / 255 / 0.26 });
});

test('a folder without a chat template is refused, unless one is named', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-processor-'));
  await processorOf(tokenizerOf('prepend'), 'llama').save(folder);
  await rm(join(folder, 'chat_template.jinja'));
  await expect(Processor.open(folder, { imageTokens: 1 })).rejects.toThrow(`${folder} has no chat template`);
  expect((await Processor.open(folder, { imageTokens: 1, template: 'llama' })).template.source).toContain('ASSISTANT: ');
  await writeFile(join(folder, 'chat_template.json'), JSON.stringify({ chat_template: '{{ messages[0].content }}' }));
  expect((await Processor.open(folder, { imageTokens: 1 })).template.source).toBe('{{ messages[0].content }}');
});

test('a tokenizer without the image token is refused', () => {
  expect(
    () => new Processor({ tokenizer: tokenizerOf('prepend'), image, template: 'llama', imageTokens: 1, imageToken: '<img>' }),
  ).toThrowErrorMatchingInlineSnapshot(`[ConfigError: the tokenizer has no special token "<img>" to stand for images]`);
});

import { expect, test } from 'vitest';
import { ImageProcessor } from '../../src/processor/image.ts';
import type { Message } from '../../src/processor/message.ts';
import { Processor, unlabelled } from '../../src/processor/processor.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { tokenizerOf } from './reference.ts';

const image = new ImageProcessor({ size: { height: 8, width: 8 } });
const dialogue: Message[] = [
  { role: 'user', content: 'Is it red?' },
  { role: 'assistant', content: 'No.' },
  { role: 'user', content: 'Blue?' },
  { role: 'assistant', content: 'Yes.' },
];

function learned({ ids, labels }: { ids: Int32Array; labels: Int32Array }, tokenizer: Tokenizer): string[] {
  const runs: number[][] = [];
  for (const [i, id] of ids.entries()) {
    if (labels[i] === unlabelled) continue;
    if (i === 0 || labels[i - 1] === unlabelled) runs.push([]);
    runs.at(-1)?.push(id);
  }
  return runs.map((run) => tokenizer.decode(run, { keepSpecial: true }));
}

test('a template that leaves the place of thoughts to the last answer is learned from as it stands', () => {
  const tokenizer = tokenizerOf('byte-level');
  const template = `{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{{ m.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}`;
  const processor = new Processor({ tokenizer, image, template, imageTokens: 1 });
  const trained = processor.encode(dialogue, { train: true });
  expect(learned(trained, tokenizer)).toEqual(['No.<|im_end|>', '<think>\n\n</think>\n\nYes.<|im_end|>']);
  for (const turns of [1, 3]) {
    const prompt = [...processor.encode(dialogue.slice(0, turns)).ids];
    expect([...trained.ids].slice(0, prompt.length)).toEqual(prompt);
  }
});

test('a template that writes an earlier question otherwise later on is refused', () => {
  const template = `{%- for m in messages -%}{{ m.role + (': ' if loop.index0 > messages | length - 3 else '. ') + m.content + '</s>' }}{%- endfor -%}`;
  const processor = new Processor({ tokenizer: tokenizerOf('prepend'), image, template, imageTokens: 1 });
  expect(() => processor.encode(dialogue, { train: true })).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the chat template writes earlier turns differently once later ones are there, so what the assistant said cannot be found]`,
  );
});

test('a token that swallows the white space behind it does so where an answer begins', () => {
  const { json, config } = tokenizerOf('prepend').files;
  const swallowing = json.added_tokens.map((token) => (token.content === '<|im_start|>' ? { ...token, rstrip: true } : token));
  const tokenizer = new Tokenizer({ json: { ...json, added_tokens: swallowing }, config });
  const template = `{%- for m in messages -%}{{ ('' if m.role == 'user' else '<|im_start|>\\n') + m.content + '<|im_end|>' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>\\n' }}{%- endif -%}`;
  const processor = new Processor({ tokenizer, image, template, imageTokens: 1 });
  const { ids } = processor.encode(dialogue.slice(0, 2), { train: true });
  const [start, end] = ['<|im_start|>', '<|im_end|>'].map((token) => tokenizer.requireId(token));
  expect([...ids]).toEqual([...tokenizer.encode('Is it red?'), end, start, ...tokenizer.encode('No.'), end]);
  expect([...processor.encode(dialogue.slice(0, 1)).ids]).toEqual([...ids].slice(0, ids.indexOf(start ?? -1) + 1));
});

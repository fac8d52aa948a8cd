import { describe, expect, test } from 'vitest';
import type { Message } from '../../src/processor/message.ts';
import { ChatTemplate } from '../../src/processor/template.ts';
import { namedTemplate, templates } from '../../src/processor/templates.ts';
import { wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { caseNames, chattingTokenizerOf, conversation, reference, tokenizerNames, tokenizerOf } from './reference.ts';

const names = Object.keys(templates);
const tokens = { bosToken: '<s>', eosToken: '</s>', imageToken: '<image>' };

describe.each(tokenizerNames)('with the %s tokenizer', (tokenizerName) => {
  const tokenizer = chattingTokenizerOf(tokenizerName);
  const { bosToken, eosToken } = tokenizer;

  describe.each(names)('template %s', (name) => {
    const golden = reference.tokenizers[tokenizerName].templates[name];
    const template = new ChatTemplate(namedTemplate(name, tokenizer), { bosToken, eosToken, imageToken: '<image>' });

    test('is the one that Python rendered (else run scripts/make-processor-references.py)', () =>
      expect(template.source).toBe(golden?.source));

    test.each(caseNames)('renders %s as Python does', (caseName) => {
      const messages = conversation(caseName);
      expect(template.render(messages).text).toBe(golden?.cases[caseName]?.text);
      expect(template.render(messages.slice(0, -1), { generationPrompt: true }).text).toBe(golden?.cases[caseName]?.prompt);
    });
  });
});

const system =
  "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";
const dialogue: Message[] = [
  {
    role: 'user',
    content: [
      { type: 'image', image: 'a.png' },
      { type: 'text', text: 'What is this?' },
    ],
  },
  { role: 'assistant', content: 'A cat.' },
  { role: 'user', content: 'Sure?' },
  { role: 'assistant', content: 'Yes.' },
];
const render = (name: keyof typeof templates, messages: readonly Message[], generationPrompt = false): string =>
  new ChatTemplate(templates[name].source, tokens).render(messages, { generationPrompt }).text;

test.each([
  ['llama', '</s>'],
  ['phi', '<|endoftext|>'],
  ['gemma', '<eos>'],
  ['qwen2_base', '<|endoftext|>'],
  ['qwen2_instruct', '<|im_end|>'],
] as const)('template %s is LLaVA-1.5 byte for byte, with %s after each answer', (name, eos) => {
  expect(render(name, dialogue)).toBe(`${system} USER: <image>\nWhat is this? ASSISTANT: A cat.${eos}USER: Sure? ASSISTANT: Yes.${eos}`);
  expect(render(name, dialogue.slice(0, 3), true)).toBe(
    `${system} USER: <image>\nWhat is this? ASSISTANT: A cat.${eos}USER: Sure? ASSISTANT:`,
  );
});

test('template plain is the image, the caption and a newline', () => {
  expect(render('plain', dialogue.slice(0, 2))).toBe('<image>A cat.\n');
  expect(render('plain', dialogue.slice(0, 1), true)).toBe('<image>');
});

test('template tiny writes no names of roles', () => {
  expect(render('tiny', dialogue)).toBe('<image>\nWhat is this?\nA cat.</s>Sure?\nYes.</s>');
});

test('template chatml writes every role', () => {
  expect(render('chatml', dialogue.slice(0, 2))).toBe(
    '<|im_start|>user\n<image>\nWhat is this?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n',
  );
});

test.each([
  ['phi3', '<|user|>\n<image>\nWhat is this?<|end|>\n<|assistant|>\nA cat.<|end|>\n'],
  [
    'llama3',
    '<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat is this?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA cat.<|eot_id|>',
  ],
] as const)('template %s writes every role', (name, text) => expect(render(name, dialogue.slice(0, 2))).toBe(text));

test('template prismatic is Vicuna with the image in front of everything', () => {
  const asked = 'USER: What is this? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT: Yes.</s>';
  expect(render('prismatic', dialogue)).toBe(`<image>${system} ${asked}`);
  expect(render('prismatic', [{ role: 'system', content: 'Be brief.' }, ...dialogue])).toBe(`<image>Be brief. ${asked}`);
});

test("template nanovlm is nanoVLM's question and answer", () => {
  expect(render('nanovlm', dialogue.slice(0, 2))).toBe('<image>Question: What is this? Answer:A cat.</s>');
  expect(render('nanovlm', dialogue.slice(0, 1), true)).toBe('<image>Question: What is this? Answer:');
});

test('a text-only template gets text with the image token in it, a multimodal one gets parts', () => {
  const textOnly = new ChatTemplate("{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}{% endfor %}", tokens);
  expect(textOnly.render(dialogue.slice(0, 1)).text).toBe('[user]<image>What is this?');
  const parts = new ChatTemplate(
    "{% for m in messages %}{% for c in m['content'] %}{{ '(image)' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}",
    tokens,
  );
  expect(parts.render(dialogue.slice(0, 2)).text).toBe('(image)What is this?A cat.');
});

test('marks of generated text are the ranges that Python finds, white space included', () => {
  const { source, text, generated } = reference.marked;
  const rendered = new ChatTemplate(source, tokens).render(conversation('two turns, text only'));
  expect(rendered.text).toBe(text);
  expect(rendered.generated.map(([from, to]) => rendered.text.slice(from, to))).toEqual(generated);
});

test('what cannot be rendered is refused in one sentence', () => {
  expect(() => new ChatTemplate('{% for %}', tokens)).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the chat template cannot be parsed: Unexpected token: CloseStatement]`,
  );
  expect(() => render('llama', [...dialogue, { role: 'system', content: 'x' }])).toThrowErrorMatchingInlineSnapshot(
    `[DataError: the chat template refuses the conversation (user, assistant, user, assistant, system): only the first message may be a system message]`,
  );
  expect(() => namedTemplate('vicuna', tokenizerOf('prepend'))).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: unknown template "vicuna"]`,
  );
  expect(() => namedTemplate('chatml', wordLevelTokenizer(['a']))).toThrow(
    expect.objectContaining({
      message: 'template "chatml" needs the special token <|im_start|> and <|im_end|>, which the tokenizer does not have',
      hint: "name the template of this language model (template: in a recipe's stage, --template on the command line); its tokens are enough for plain, llama, prismatic, nanovlm, tiny",
    }),
  );
});

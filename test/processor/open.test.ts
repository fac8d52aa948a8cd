import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ChatModel } from '../../src/generate/generate.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { openProcessor } from '../../src/processor/open.ts';
import { namedTemplate } from '../../src/processor/templates.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { referenceFolder } from './reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-open-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** A published folder as its authors left it: a tokenizer without a token for images, no image settings, no chat template. */
function asPublished(name: string): string {
  const folder = join(scratch, name);
  cpSync(join(referenceFolder, name), folder, { recursive: true });
  const { json, config } = wordLevelTokenizer(splitWords('What is it? USER ASSISTANT: A chat between')).files;
  const { '<image>': _, ...vocab } = json.model.vocab as Record<string, number>;
  const ids = Object.fromEntries(Object.keys(vocab).map((token, id) => [token, id]));
  const added_tokens = json.added_tokens.filter(({ content }) => content !== '<image>');
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify({ ...json, added_tokens, model: { ...json.model, vocab: ids } }));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...config, image_token: undefined }));
  return folder;
}

test.each(['dialect-llava', 'dialect-factory', 'dialect-bench'])('%s is asked from the files as they are published', async (name) => {
  const folder = asPublished(name);
  const { model, config } = await loadCheckpoint(folder, { dtype: 'float32' });
  const processor = await openProcessor(folder, model);
  expect(processor.template.source).toContain("{{ 'USER: ' + words(message.content) + ' ' }}");
  expect(processor.imageTokenId).toBe(config.imageTokenId);
  expect([processor.image.height, processor.image.width]).toEqual([model.visionTower?.imageSize, model.visionTower?.imageSize]);
  const image = join(referenceFolder, 'views-images/wide.png');
  const chat = new ChatModel(model, processor);
  const answer = await chat.generate({ messages: [{ role: 'user', content: 'What is it?' }], images: [image], maxNewTokens: 2 });
  expect(answer.usage.promptTokens).toBeGreaterThan(model.imageTokens);
  expect(answer.ids.length).toBeGreaterThan(0);
  chat.free();
});

test('the image settings of published folders are those of their towers', async () => {
  const settings = async (name: string) => {
    const folder = asPublished(name);
    const { model } = await loadCheckpoint(folder, { dtype: 'float32' });
    return (await openProcessor(folder, model)).image.config;
  };
  expect(await settings('dialect-llava')).toMatchObject({
    size: { shortestEdge: 6 },
    crop: { height: 6, width: 6 },
    mean: [0.48145466, 0.4578275, 0.40821073],
  });
  expect(await settings('dialect-bench')).toMatchObject({ mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], aspect: 'pad' });
});

test.each([
  ['before it had a chat template', ['lm_chat_template', 'max_img_size'], 'nanovlm', 'bilinear'],
  ['with one', [], 'chatml', 'bicubic'],
] as const)('nanoVLM %s is asked as its code does', async (_, left, template, resample) => {
  const folder = asPublished('dialect-nanovlm');
  const file = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(
    file,
    JSON.stringify(config, (key, value) => ((left as readonly string[]).includes(key) ? undefined : value)),
  );
  await (await Tokenizer.open(folder)).withSpecialToken('<|im_start|>').withSpecialToken('<|im_end|>').save(folder);
  const { model } = await loadCheckpoint(folder);
  const { image, template: opened, tokenizer } = await openProcessor(folder, model);
  expect(opened.source).toBe(namedTemplate(template, tokenizer));
  expect(image.config).toMatchObject({ resample, mean: [0, 0, 0], std: [1, 1, 1] });
});

test('a language model alone takes no images, and says so', async () => {
  const folder = asPublished('llama-mqa');
  const { model } = await loadCheckpoint(folder);
  const processor = await openProcessor(folder, model, { template: 'tiny' });
  expect(processor.encode([{ role: 'user', content: 'What is it?' }]).ids.length).toBeGreaterThan(3);
  expect(() => processor.image).toThrow('this model is a language model alone: it takes no images');
  const chat = new ChatModel(model, processor);
  const asked = chat.generate({ messages: [{ role: 'user', content: 'What?' }], images: ['a.png'] });
  await expect(asked).rejects.toThrow('1 images for a model that is a language model alone');
});

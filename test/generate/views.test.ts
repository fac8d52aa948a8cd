import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ChatModel } from '../../src/generate/generate.ts';
import { promptLogits } from '../../src/generate/logits.ts';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { viewsOf } from '../../src/model/image-layout.ts';
import { openProcessor } from '../../src/processor/open.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import '../matchers.ts';
import { referenceFolder } from '../processor/reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-views-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const families = ['llava_next', 'llava_onevision', 'idefics3', 'smolvlm', 'internvl', 'internvl_odd'];
const template = '{% for message in messages %}{{ message.content }}{% endfor %}';
const parts = (token: string): string =>
  `{% for message in messages %}{% for part in message.content %}{{ part.text if part.type == 'text' else '${token}' }}{% endfor %}{% endfor %}`;
const picture = (name: string): string => join(referenceFolder, 'views-images', `${name}.png`);

async function open(folder: string): Promise<ChatModel> {
  const { model } = await loadCheckpoint(folder);
  return new ChatModel(model, await openProcessor(folder, model, { template }));
}

describe.each(families)('%s', (family) => {
  const folder = join(referenceFolder, `views-${family}`);
  const expected = openSafetensors(join(folder, 'expected.safetensors'));
  const prompts = JSON.parse(readFileSync(join(folder, 'prompts.json'), 'utf8')) as Record<string, [string[], string]>;

  test.each(Object.keys(prompts))('spells, cuts and reads the prompt "%s" as transformers does', async (label) => {
    const { model, processor } = await open(folder);
    const [shown, text] = prompts[label] ?? [[], ''];
    const requests = shown.map((name) => ({ source: picture(name), whole: false }));
    const layouts = await processor.image.layouts(requests);
    const example = processor.encodeText(text, shown.map(picture), layouts);
    expect([...example.ids]).toEqual([...(expected.tensor(`${label}.ids`).toArray() as Int32Array)]);
    expect(example.images.map(({ start, end }) => end - start).every((length) => length > 0)).toBe(true);

    const pixels = expected.tensor(`${label}.pixels`);
    expect(pixels.size(0)).toBe(layouts.reduce((sum, layout) => sum + viewsOf(layout), 0));
    let at = 0;
    for (const [i, name] of shown.entries()) {
      const own = await processor.image.load(picture(name), layouts[i]);
      const wanted = pixels.narrow(0, at, own.size(0));
      at += own.size(0);
      const levels = own
        .sub(wanted)
        .abs()
        .mul(255 * Math.max(...processor.image.config.std))
        .toArray() as Float32Array;
      // The resizing filters round differently: a level where an image is resized once, some more where it is resized again.
      expect(Math.max(...levels)).toBeLessThan(processor.image.config.tiling?.type === 'split' ? 4.01 : 2.01);
      expect(levels.filter((level) => level > 0.01).length / levels.length).toBeLessThan(0.1);
    }

    const hidden = noGrad(() => model.hidden({ ids: example.ids, lengths: [example.ids.length], pixels, layouts }));
    const logits = noGrad(() => model.logits(hidden.narrow(0, hidden.size(0) - 4, 4)));
    expect(logits).toMatchTensor(expected.tensor(`${label}.logits`), { atol: 2e-5 });
  });

  test('answers as it reads the prompt at once, and goes on from an image that it has seen', async () => {
    const chat = await open(folder);
    const token = chat.processor.imageToken;
    const ask = (text: string) => ({
      messages: [
        {
          role: 'user',
          content: [
            { type: 'image', image: picture('tall') },
            { type: 'text', text },
          ],
        },
      ] as const,
      maxNewTokens: 3,
    });
    const images = new ChatModel(chat.model, chat.processor.withTemplate(parts(token)), { remembered: 2 });
    const first = await images.generate(ask('What?'));
    const { logits } = await promptLogits(chat, { prompt: `${token}What?`, images: [picture('tall')] });
    expect(first.ids[0]).toBe(
      Number(
        logits
          .select(0, logits.size(0) - 1)
          .argmax(0)
          .item(),
      ),
    );
    const second = await images.generate(ask('What color?'));
    expect(second.usage.sharedTokens).toBeGreaterThanOrEqual(first.usage.promptTokens >= 40 ? 32 : 0);
    const alone = await new ChatModel(chat.model, images.processor).generate(ask('What color?'));
    expect(second.ids).toEqual(alone.ids);
    images.free();
  });

  test('comes back as it was saved', async () => {
    const { model, processor } = await open(folder);
    const target = join(scratch, family);
    await saveCheckpoint(target, model);
    await processor.save(target);
    const again = await open(target);
    expect(again.model.config).toEqual(model.config);
    expect(again.processor.image.config).toEqual(processor.image.config);
    expect(again.processor.spelling).toBe(processor.spelling);
    const prompt = { prompt: `${processor.imageToken}What?`, images: [picture('wide')] };
    const [one, two] = [await promptLogits({ model, processor } as ChatModel, prompt), await promptLogits(again, prompt)];
    expect(two.logits).toMatchTensor(one.logits, { atol: 0 });
  });
});

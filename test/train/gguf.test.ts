import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadLanguageModel } from '../../src/model/checkpoint.ts';
import { build } from '../../src/train/build.ts';
import { parseRecipe } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { tinyData } from './tiny-data.ts';

const gguf = join(import.meta.dirname, '../reference/gguf');

test("a recipe's language model and tokenizer come from GGUF files, and learn", async () => {
  const root = await tinyData();
  const tiny = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  const language = { from: join(gguf, 'llama.gguf') };
  const recipe = parseRecipe({
    model: { vision: { type: 'conv-vit', imageSize: 16 }, connector: { type: 'pixel-shuffle' }, language },
    processor: { tokenizer: { from: join(gguf, 'tokenizer-prepend.gguf') } },
    stages: tiny.stages.slice(0, 1).map(({ template: _, epochs: __, ...stage }) => ({ ...stage, steps: 2 })),
  });
  const { model, processorFor } = await build(recipe, { root, device: 'cpu' });
  const [stage] = recipe.stages;
  if (!stage) throw new Error('no stage');
  const { tokenizer, template } = processorFor(stage);
  expect(template.source).toContain("{{ message['role'] + ': '");
  expect(model.languageModel.vocabSize).toBe(tokenizer.size);
  const { model: alone } = await loadLanguageModel(language.from);
  expect(model.languageModel.headWeight.narrow(0, 0, 45).equal(alone.headWeight)).toBe(true);
  await train(recipe, { root, out: join(root, 'run'), workers: 0 });
  await rm(root, { recursive: true });
});

import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { saveAdapter } from '../model/adapter/save.ts';
import { type LoadOptions, loadCheckpoint, saveCheckpoint } from '../model/checkpoint.ts';
import { openModelFiles } from '../model/model-files.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { openProcessor } from '../processor/open.ts';
import type { Processor } from '../processor/processor.ts';
import { hasTokenizer } from '../processor/tokenizer-files.ts';
import { isLora, partNames, type Recipe, type Stage } from './recipe.ts';
import { writeRecipe } from './recipe-file.ts';
import { partsOf } from './tune.ts';

/** The name under which a checkpoint keeps the recipe that it was trained by. */
export const recipeFile = 'recipe.yaml';

/** A model with what it takes to use it. */
interface Saved {
  readonly model: TinyLlava;
  readonly processor: Processor;
}

/** Tokenizer, chat template and image settings by the names of their files. */
async function processorFiles(processor: Processor): Promise<Record<string, Uint8Array>> {
  const draft = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  try {
    await processor.save(draft);
    return Object.fromEntries(await Promise.all((await readdir(draft)).map(async (name) => [name, await readFile(join(draft, name))])));
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Writes the model with its tokenizer, chat template, image settings and resolved recipe as one Hugging Face folder, whole or not at all. */
export async function saveTrained(folder: string, { model, processor, recipe }: Saved & { recipe: Recipe }): Promise<void> {
  await saveCheckpoint(folder, model, { ...(await processorFiles(processor)), [recipeFile]: writeRecipe(recipe) });
}

/**
 * Writes what a stage learned as an adapter that PEFT opens: low-rank changes, all weights of the parts that learned otherwise, and the files that
 * `saveTrained` writes beside. `base` is the model from before the stage: its folder, or its name elsewhere.
 */
export async function saveTrainedAdapter(
  folder: string,
  { model, processor, recipe, stage: { learns }, base }: Saved & { recipe: Recipe; stage: Stage; base: string },
): Promise<void> {
  const parts = partsOf(model);
  const learned = partNames.filter((part) => learns[part].tune !== 'frozen' && !isLora(learns[part]));
  const whole = learned
    .flatMap((part) => [parts[part], part === 'connector' ? model.arrangement : undefined])
    .filter((part) => part !== undefined);
  const files = { ...(await processorFiles(processor)), [recipeFile]: writeRecipe(recipe) };
  await saveAdapter(folder, model, { base: existsSync(base) ? relative(resolve(folder), resolve(base)) : base, whole }, files);
}

/**
 * Opens the adapter in `from` on top of its base, adds it to the weights, and writes the model whole to `folder`, with its processor's files where it
 * has them. Throws CheckpointError or ConfigError.
 */
export async function mergeAdapter(from: string, folder: string, options: LoadOptions = {}): Promise<void> {
  const { model } = await loadCheckpoint(from, { ...options, keepAdapter: false });
  const { folders } = await openModelFiles(from, options);
  const files = folders.some(hasTokenizer) ? await processorFiles(await openProcessor(from, model, options)) : {};
  await saveCheckpoint(folder, model, files, options);
}

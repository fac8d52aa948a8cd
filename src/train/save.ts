import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { saveCheckpoint } from '../model/checkpoint.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import type { Recipe } from './recipe.ts';
import { writeRecipe } from './recipe-file.ts';

/** The name under which a checkpoint keeps the recipe that it was trained by. */
export const recipeFile = 'recipe.yaml';

/** Writes the model with its tokenizer, chat template, image settings and resolved recipe as one Hugging Face folder, whole or not at all. */
export async function saveTrained(
  folder: string,
  { model, processor, recipe }: { model: TinyLlava; processor: Processor; recipe: Recipe },
): Promise<void> {
  const draft = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  try {
    await processor.save(draft);
    const files = await Promise.all((await readdir(draft)).map(async (name) => [name, await readFile(join(draft, name))] as const));
    await saveCheckpoint(folder, model, { ...Object.fromEntries(files), [recipeFile]: writeRecipe(recipe) });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

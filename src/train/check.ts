import { resolve } from 'node:path';
import { findDataFiles } from '../data/find.ts';
import { ConfigError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { partNames, type Recipe, type Stage } from './recipe.ts';
import { checkElementwise } from './shardable.ts';
import { trainableOf } from './tune.ts';

/** The data of a stage, that of its validation included. */
export const sourcesOf = ({ data, validation }: Stage): Stage['data'] => [...data, ...(validation?.data ?? [])];

/** Where conversations of a stage may be longer than what the language model was made for. */
export interface BeyondContext {
  readonly maxLength: number;
  readonly contextTokens: number;
}

/** What is to be said of a stage that cuts conversations only behind the language model's context, as some published recipes do. */
export const beyondContext = ({ contextTokens }: TinyLlava, { maxLength }: Stage): BeyondContext | undefined =>
  maxLength > contextTokens ? { maxLength, contextTokens } : undefined;

/**
 * Throws what would end a stage at its beginning, hours into a run: ConfigError for a part, a layer or a target that the model lacks, nothing that learns, or
 * an optimizer that cannot be sharded, and DataError for data that is not there.
 */
export async function checkStages(
  { stages }: Pick<Recipe, 'stages'>,
  { model, root, sharded }: { model: TinyLlava; root: string; sharded: boolean },
): Promise<void> {
  for (const stage of stages) {
    if (sharded) checkElementwise(stage.name, stage.optimizer.type);
    const { name, learns } = stage;
    const counts = Object.values(trainableOf(model, stage));
    if (counts.every((count) => count === 0)) {
      const named = partNames.filter((part) => learns[part].tune !== 'frozen');
      throw new ConfigError(`stage ${name}: nothing would learn: ${named.join(' and ')} of this model has no parameters`);
    }
    for (const { conversations } of sourcesOf(stage)) await findDataFiles(resolve(root, conversations));
  }
}

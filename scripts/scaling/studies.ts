import { fullSize, type LanguageName, type TowerName } from '../../bench/full-size/models.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { parseRecipe, type RecipeInput, type Stage } from '../../src/train/recipe.ts';
import { countModel, type ModelCounts } from './counts.ts';
import { type Data, llavaData } from './data.ts';

/** A model, a stage, and what it goes through. */
export interface Study {
  readonly model: TinyLlava;
  readonly stage: Stage;
  readonly counts: ModelCounts;
  readonly data: Data;
}

const data = { conversations: 'data.json' };
const optimizer = { learningRate: 1e-4 };
const written: RecipeInput['stages'] = [
  { name: 'align', learns: { connector: 'full' }, data, optimizer, batchSize: 256, epochs: 1 },
  { name: 'instruct', learns: { connector: 'full', language: 'full' }, data, optimizer, batchSize: 128, epochs: 1 },
  { name: 'lora', learns: { connector: 'full', language: 'lora' }, data, optimizer, batchSize: 128, epochs: 1 },
];
const { stages } = parseRecipe({ model: { from: 'model' }, stages: written });
export type StageName = 'align' | 'instruct' | 'lora';

const models = new Map<string, TinyLlava>();
const known = new Map<string, Study>();

/** One of the paper's models in a stage of its base recipe, or with low-rank changes of the language model, over LLaVA-1.5's data. */
export function studied(tower: TowerName, language: LanguageName, name: StageName): Study {
  const title = `${tower} ${language}`;
  const model = models.get(title) ?? fullSize(tower, language).model;
  models.set(title, model);
  const found = known.get(`${title} ${name}`);
  if (found) return found;
  const stage = stages.find((other) => other.name === name) as Stage;
  const { align, instruct } = llavaData(model.viewTokens);
  const study = { model, stage, counts: countModel(model, stage), data: name === 'align' ? align : instruct };
  known.set(`${title} ${name}`, study);
  return study;
}

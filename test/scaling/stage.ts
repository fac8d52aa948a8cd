import { parseRecipe, type RecipeInput, type Stage } from '../../src/train/recipe.ts';

/** A stage of which only what learns matters. */
export function stageOf(learns: RecipeInput['stages'][number]['learns']): Stage {
  const data = { conversations: 'data.json' };
  const { stages } = parseRecipe({
    model: { from: 'model' },
    stages: [{ name: 'stage', learns, data, optimizer: { learningRate: 1 }, batchSize: 8, epochs: 1 }],
  });
  return stages[0] as Stage;
}

export { type DryRun, dryRun, type PartFacts, type SampleFacts, type StageFacts } from './dry-run.ts';
export type { MemoryEstimate } from './memory.ts';
export { AdamW, type AdamWOptions, type ParameterGroup } from './optimizer.ts';
export { parseRecipe, Recipe, type RecipeInput, type Stage, selectStages, startFrom, type Tuning } from './recipe.ts';
export { type Override, parseOverride, readRecipe, writeRecipe } from './recipe-file.ts';
export { learningRateFactor, type Schedule } from './schedule.ts';
export type { StepEvent } from './stage.ts';
export { type StageResult, type Trained, type TrainOptions, type TrainResult, train } from './trainer.ts';

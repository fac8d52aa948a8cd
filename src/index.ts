export { CheckpointError, ConfigError, DataError, HubError, NativeError, ShapeError, TinyLlavaError, UsageError } from './errors.ts';
export {
  answerSamples,
  type Baseline,
  type Benchmark,
  besidePublished,
  bootstrapped,
  type Comparison,
  compareRuns,
  detectableDifference,
  Endpoint,
  type EvaluateOptions,
  evaluate,
  exactMatch,
  hallucinationTable,
  type Interval,
  Judge,
  type JudgeOptions,
  type Metric,
  majorityBaseline,
  markdown,
  mcnemar,
  meanByCategory,
  openTasks,
  type Paired,
  type PairedDifference,
  type Profile,
  type PublishedRow,
  pairedBootstrap,
  publishedResults,
  questionOnlyBaseline,
  type Respondent,
  type Results,
  readSamples,
  type Sample,
  type Scored,
  type ScoreOptions,
  type ScoreResult,
  scoreAnswers,
  scoreBaseline,
  scoreTable,
  type Task,
  type TaskResult,
  tasks,
  type Verdict,
  wilson,
  writePage,
} from './evaluate/index.ts';
export { type Conversion, type ConvertOptions, convert } from './export/index.ts';
export { type Answer, ChatModel, type GenerateOptions, loadModel, type Outcome } from './generate/index.ts';
export { type HubEvent, type HubUse, type ResolveOptions, resolveModel } from './hub/index.ts';
export type { Log, LogEvent } from './log.ts';
export type { ContentPart, ImageSource, Message } from './processor/message.ts';
export { ProcessGroup } from './tensor/distributed.ts';
export { jobFromEnvironment } from './train/job.ts';
export { parseRecipe, type RecipeInput as Recipe } from './train/recipe.ts';
export { mergeAdapter } from './train/save.ts';
export { type TrainOptions, type TrainResult, train } from './train/trainer.ts';
export { version } from './version.ts';

export type { BatchOptions } from './batch.ts';
export { ChatModel, type GenerateOptions, loadModel, type Outcome } from './generate.ts';
export type { Answer } from './reply.ts';
export { type Candidates, Sampler, type SamplingOptions } from './sample.ts';
export { type FinishReason, StopStrings } from './stop.ts';

export { type Batch, microBatches, pack, type ReadyExample, supervisedTokens } from './batch.ts';
export { parseConversation } from './conversation.ts';
export { Dataset, Mixture, type Row, type RowSource, type SourceOptions } from './dataset.ts';
export { Loader, type LoaderOptions, type StepData } from './loader.ts';
export { Random } from './random.ts';
export { Sampler, type SamplerOptions, type SamplerState } from './sampler.ts';

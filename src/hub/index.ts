export type { HubUse } from './needed.ts';
export type { HubEvent } from './progress.ts';
export { type ResolveOptions, resolveModel } from './resolve.ts';

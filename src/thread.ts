import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { CheckpointError, ConfigError, DataError, TinyLlavaError } from './errors.ts';

/**
 * Starts a module beside the caller's in a thread of its own: `here` is the caller's import.meta.url, `name` the module's file without its ending. The
 * package ships JavaScript; its sources run through tsx, which threads do not inherit.
 */
export function startThread(here: string, name: string, workerData: unknown): Worker {
  if (!here.endsWith('.ts')) return new Worker(new URL(`./${name}.js`, here), { workerData });
  const tsx = pathToFileURL(createRequire(here).resolve('tsx/esm/api').replace(/cjs$/, 'mjs')).href;
  const file = new URL(`./${name}.ts`, here).href;
  return new Worker(`import('${tsx}').then(({ tsImport }) => tsImport('${file}', '${file}'))`, { eval: true, workerData });
}

/** An error as it goes from a thread to another, which loses its class. */
export type SentError = Pick<TinyLlavaError, 'name' | 'message' | 'hint'>;
export const sentError = ({ name, message, hint }: SentError): SentError => ({ name, message, hint });

/** The error that was sent. */
export function receivedError({ name, message, hint }: SentError): Error {
  const Kind = { DataError, ConfigError, CheckpointError }[name] ?? TinyLlavaError;
  return new Kind(message, hint === undefined ? {} : { hint });
}

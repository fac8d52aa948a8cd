import { once } from 'node:events';
import { ConfigError } from '../../errors.ts';
import { startThread } from '../../thread.ts';
import type { WatchOrder, WatchReply } from './thread.ts';

/** A page that is being served. */
export interface Watch extends AsyncDisposable {
  readonly url: string;
}

/**
 * Serves the page of a run's folder to this machine, from a thread of its own: training keeps its thread busy for whole steps. Port 0 is any that is free.
 * Throws ConfigError for one that is taken.
 */
export async function watch(folder: string, port: number): Promise<Watch> {
  const thread = startThread(import.meta.url, 'thread', { folder, port } satisfies WatchOrder);
  const [reply] = (await once(thread, 'message')) as [WatchReply];
  if ('error' in reply) {
    await thread.terminate();
    throw new ConfigError(`the page cannot be served: ${reply.error}`, { hint: 'name another port: --watch 8080, or 0 for any' });
  }
  return {
    url: `http://127.0.0.1:${reply.port}/`,
    [Symbol.asyncDispose]: async () => {
      await thread.terminate();
    },
  };
}

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { ConfigError } from '../../errors.ts';
import { duration } from '../../evaluate/html/format.ts';
import { startThread } from '../../thread.ts';
import type { TrainResult } from '../../train/trainer.ts';
import { describeError } from '../print.ts';
import type { Ending } from './page.ts';
import type { WatchOrder, WatchReply } from './thread.ts';

/** A page that is being served. */
export interface Watch extends AsyncDisposable {
  readonly url: string;
  /** Tells those who look at the page how the run has ended. */
  end(ending: Ending): Promise<void>;
}

/** How long those who look at it have to be told, in milliseconds. */
const patience = 2000;

/**
 * Serves the page of a run's folder to this machine, from a thread of its own: training keeps its thread busy for whole steps. Port 0 is any that is free.
 * Throws ConfigError for one that is taken.
 */
export async function watch(folder: string, port: number, stages: readonly string[] = []): Promise<Watch> {
  const thread = startThread(import.meta.url, 'thread', { folder, port, stages } satisfies WatchOrder);
  const reply = async (): Promise<WatchReply> => (await once(thread, 'message'))[0];
  const first = await reply();
  if (!('port' in first)) {
    await thread.terminate();
    throw new ConfigError(`the page cannot be served: ${'error' in first ? first.error : ''}`, {
      hint: 'name another port: --watch 8080, or 0 for any',
    });
  }
  return {
    url: `http://127.0.0.1:${first.port}/`,
    end: async (ending) => {
      thread.postMessage(ending);
      await Promise.race([reply(), delay(patience, undefined, { ref: false })]);
    },
    [Symbol.asyncDispose]: async () => {
      await thread.terminate();
    },
  };
}

/** Trains, and tells those who look at the page how it has ended. */
export async function watched(page: Watch | undefined, training: () => Promise<TrainResult>): Promise<TrainResult> {
  try {
    const result = await training();
    const text = result.stopped ? 'Interrupted; it goes on with --resume.' : `Done after ${duration(result.seconds)} of training.`;
    await page?.end({ done: !result.stopped, text });
    return result;
  } catch (error) {
    await page?.end({ done: false, text: describeError(error, {}) });
    throw error;
  }
}

import type { HubUse } from '../hub/needed.ts';
import type { HubEvent } from '../hub/progress.ts';
import type { Log } from '../log.ts';
import { interruptible } from './interrupt.ts';
import { StatusLine } from './quickstart/status-line.ts';

const size = (bytes: number): string => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);

/** Shows how far a download from the hub is. */
export function hubProgress(line: StatusLine): Log {
  return (reported) => {
    const event = reported as HubEvent;
    if (event.event === 'downloading') {
      const left = (event.totalBytes - event.doneBytes) / event.bytesPerSecond;
      line.update([
        event.model,
        `${size(event.doneBytes)} of ${size(event.totalBytes)}`,
        ...(Number.isFinite(left) ? [`${Math.ceil(left)} s left`] : []),
        `${size(event.bytesPerSecond)}/s`,
      ]);
    }
    if (event.event === 'downloaded') {
      line.finish([
        event.model,
        'fetched',
        `${event.files} ${event.files === 1 ? 'file' : 'files'}`,
        size(event.totalBytes),
        `${event.seconds.toFixed(1)} s`,
      ]);
    }
    if (event.event === 'hub-unreachable')
      line.say(`${event.model}: the hub cannot be asked (${event.reason}); taking ${event.commit.slice(0, 8)} from the cache`);
  };
}

/**
 * The local folder of a model that is given as a path or a hub id; a download is shown, and Ctrl-C ends it. With `outlines`, a folder, weights are not
 * fetched. Throws HubError.
 */
export async function findModel(nameOrPath: string, use?: HubUse, outlines?: string): Promise<string> {
  const { resolveModel } = await import('../hub/resolve.ts');
  using line = new StatusLine(process.stderr);
  return await interruptible((signal) => resolveModel(nameOrPath, { use, outlines, log: hubProgress(line), signal }));
}

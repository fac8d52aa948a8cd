import { Command } from 'commander';
import type { Said, Sent } from '../evaluate/respondent/processes.ts';
import { type ModelFlags, openModel } from './options.ts';

/** What such a process goes by; it is told as JSON, so that no flag is left behind. */
export interface WorkerFlags extends ModelFlags {
  readonly batchSize: number;
}

/** One of the processes of `eval --processes`, which starts it; it has no use by itself. */
export function evalWorkerCommand(): Command {
  const command = new Command('eval-worker').argument('<model>').argument('<flags>', '', (text) => JSON.parse(text) as WorkerFlags);
  return command.action(async (path: string, flags: WorkerFlags) => {
    // Ctrl-C reaches every process of a terminal: the one that was started by hand says when it is over.
    process.on('SIGINT', () => {});
    process.on('disconnect', () => process.exit());
    const { failureOf, serveQuestions } = await import('../evaluate/respondent/worker.ts');
    const send = (said: Said, then = (): void => {}): void => void process.send?.(said, then);
    const hear = (listener: (sent: Sent) => void): void => void process.on('message', (sent) => listener(sent as Sent));
    try {
      await serveQuestions(await openModel(path, flags), { send, hear }, flags);
    } catch (error) {
      // Said by the process that started this one, once for all.
      send(failureOf(error), () => process.exit(1));
    }
  });
}

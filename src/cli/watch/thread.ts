import { parentPort, workerData } from 'node:worker_threads';
import { serve } from '@hono/node-server';
import { watchApp } from './app.ts';
import type { Ending } from './page.ts';

/** What the thread is given; how the run has ended comes later, as a message. */
export interface WatchOrder {
  readonly folder: string;
  readonly port: number;
  readonly stages: readonly string[];
}

/** What it answers: once when it serves or cannot, once when every page that is open has been told the end. */
export type WatchReply = { readonly port: number } | { readonly error: string } | { readonly told: true };

const { folder, port, stages } = workerData as WatchOrder;
const answer = (reply: WatchReply): void => parentPort?.postMessage(reply);
const ending = new Promise<Ending>((resolve) => parentPort?.once('message', resolve));
const app = watchApp(folder, { stages, ending });
const server = serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, (address) => answer({ port: address.port }));
server.on('error', (error: Error) => answer({ error: error.message }));
void ending.then(() => server.close(() => answer({ told: true })));

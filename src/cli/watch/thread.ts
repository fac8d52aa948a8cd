import { parentPort, workerData } from 'node:worker_threads';
import { serve } from '@hono/node-server';
import { watchApp } from './app.ts';

/** What the thread is given. */
export interface WatchOrder {
  readonly folder: string;
  readonly port: number;
}

/** What it answers once. */
export type WatchReply = { readonly port: number } | { readonly error: string };

const { folder, port } = workerData as WatchOrder;
const answer = (reply: WatchReply): void => parentPort?.postMessage(reply);
const server = serve({ fetch: watchApp(folder).fetch, port, hostname: '127.0.0.1' }, (address) => answer({ port: address.port }));
server.on('error', (error: Error) => answer({ error: error.message }));

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { LogEvent } from '../../log.ts';
import { ownFolders } from '../../train/own-folders.ts';
import type { TrainingSample } from './answers.ts';
import { GrowingLines } from './json-lines.ts';
import { type Ending, live, page } from './page.ts';

/** The file of a run's folder that answers on the way are added to, and the folder of their small images. */
export const [samplesFile, imagesFolder] = ['samples.jsonl', ownFolders.sampleImages];

const refreshMs = 2000;

/** Which stages there are to be, and how the run ends once it does. */
export interface WatchOptions {
  readonly stages?: readonly string[];
  readonly ending?: Promise<Ending>;
}

/** Shows what a run's folder says now: a page, and the part of it that changes, again and again until the run has ended. */
export function watchApp(folder: string, { stages = [], ending = new Promise(() => {}) }: WatchOptions = {}): Hono {
  const metrics = new GrowingLines<LogEvent>(join(folder, 'metrics.jsonl'));
  const samples = new GrowingLines<TrainingSample>(join(folder, samplesFile));
  const over = new AbortController();
  let ended: Ending | undefined;
  void ending.then((end) => {
    ended = end;
    over.abort();
  });
  const content = () => live({ stages, events: metrics.read(), samples: samples.read(), ending: ended });
  const app = new Hono();
  app.get('/', (context) => context.html(page(basename(resolve(folder)), content())));
  app.get('/live', (context) =>
    streamSSE(context, async (stream) => {
      for (let shown = ''; !stream.aborted; ) {
        const last = ended !== undefined;
        const { text } = content();
        if (text !== shown) await stream.writeSSE({ data: text });
        if (last) return;
        shown = text;
        await delay(refreshMs, undefined, { signal: over.signal }).catch(() => {});
      }
    }),
  );
  app.get('/images/:name{[0-9a-f]+\\.webp}', async (context) => {
    const file = join(folder, imagesFolder, context.req.param('name'));
    if (!existsSync(file)) return context.notFound();
    return context.body(await readFile(file), 200, { 'content-type': 'image/webp', 'cache-control': 'max-age=31536000, immutable' });
  });
  return app;
}

import { basename, join, resolve } from 'node:path';
import { Hono } from 'hono';
import type { LogEvent } from '../../log.ts';
import { GrowingLines } from './json-lines.ts';
import { live, page, type TrainingSample } from './page.ts';

/** The file of a run's folder that answers on the way are added to. */
export const samplesFile = 'samples.jsonl';

/** Shows what a run's folder says now: a page, and the part of it that changes. */
export function watchApp(folder: string): Hono {
  const metrics = new GrowingLines<LogEvent>(join(folder, 'metrics.jsonl'));
  const samples = new GrowingLines<TrainingSample>(join(folder, samplesFile));
  const content = () => live(metrics.read(), samples.read());
  const app = new Hono();
  app.get('/', (context) => context.html(page(basename(resolve(folder)), content())));
  app.get('/live', (context) => context.html(content().text));
  return app;
}

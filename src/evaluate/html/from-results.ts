import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Random } from '../../data/random.ts';
import { DataError } from '../../errors.ts';
import type { TaskResult } from '../evaluate.ts';
import type { Scored } from '../task.ts';
import type { ReportData, ReportSample, ReportScore } from './data.ts';
import { count } from './format.ts';

/** The scores of a task as the page shows them; `order` names the categories that come first, `goals` what was to be reached, by category. */
export function reportScores(
  { metrics, baselines }: TaskResult,
  { order = [], goals = {} }: { readonly order?: readonly string[]; readonly goals?: Readonly<Record<string, number>> } = {},
): ReportScore[] {
  const rank = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...metrics]
    .sort((a, b) => rank(a.name) - rank(b.name))
    .map(({ name, value: points, interval, count, max = 1 }) => {
      // The page draws everything on one scale.
      const value = points / max;
      const others = Object.entries(baselines).flatMap(([baseline, list]) => {
        const same = list.find((metric) => metric.name === name);
        return same ? [[baseline, same.value / (same.max ?? 1)] as const] : [];
      });
      const goal = goals[name];
      return {
        name,
        count,
        correct: Math.round(value * count),
        accuracy: { value, low: interval.low / max, high: interval.high / max },
        baselines: Object.fromEntries(others),
        ...(goal !== undefined && { goal }),
      };
    });
}

/** One scored sample as the page shows it. */
export function reportSample({ sample, answer, error, score }: Scored): ReportSample {
  const { question, images, targets, category } = sample;
  return {
    image: images[0] ?? '',
    question,
    answer: answer ?? `(not asked: ${error ?? 'unknown reason'})`,
    truth: targets.join(' or '),
    type: category,
    correct: score === 1,
  };
}

/**
 * Images for the gallery with all their questions: some drawn by the seed, then further ones that have a wrong answer. Gives the files of the
 * images too.
 */
export function drawSamples(
  scored: readonly Scored[],
  { seed, drawn, wrong }: { readonly seed: number; readonly drawn: number; readonly wrong: number },
): Pick<ReportData, 'samples' | 'drawn' | 'imagesInAll'> & { readonly files: readonly string[] } {
  const byImage = new Map<string, Scored[]>();
  for (const one of scored) {
    const file = one.sample.images[0];
    if (file !== undefined) byImage.set(file, [...(byImage.get(file) ?? []), one]);
  }
  const order = new Random(seed).shuffle([...byImage.keys()]);
  const first = order.slice(0, drawn);
  const missed = order.slice(drawn).filter((file) => byImage.get(file)?.some(({ score }) => score < 1));
  const further = missed.slice(0, wrong);
  const rest =
    further.length === 0
      ? ''
      : `, then ${further.length === missed.length ? 'all' : `${further.length} of the`} ${count(missed.length)} others with a wrong answer`;
  const files = [...first, ...further];
  return {
    files,
    samples: files.flatMap((file) => (byImage.get(file) ?? []).map(reportSample)),
    drawn: `${count(first.length)} drawn at random${rest}`,
    imagesInAll: byImage.size,
  };
}

const mediaTypes: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.webp': 'image/webp',
  '.gif': 'image/gif',
};

/** Image files as data URIs by their paths. Throws DataError for a kind of file that browsers do not show. */
export async function embedImages(files: Iterable<string>): Promise<Record<string, string>> {
  const embedded = [...new Set(files)].map(async (file) => {
    const type = mediaTypes[extname(file).toLowerCase()];
    if (type === undefined)
      throw new DataError(`${file} cannot be put into a page`, { hint: `use one of ${Object.keys(mediaTypes).join(', ')}` });
    return [file, `data:${type};base64,${await readFile(file, 'base64')}`] as const;
  });
  return Object.fromEntries(await Promise.all(embedded));
}

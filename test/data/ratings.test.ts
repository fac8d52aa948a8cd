import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inspectData } from '../../src/data/inspect.ts';
import { Mixture } from '../../src/data/mixture.ts';
import { openRows } from '../../src/data/open-rows.ts';
import type { MinRatings } from '../../src/data/rows.ts';
import type { LogEvent } from '../../src/log.ts';
import { contentParts } from '../../src/processor/message.ts';
import { dryRun } from '../../src/train/dry-run.ts';
import { parseRecipe, type RecipeInput } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { tinyllava } from '../cli/run.ts';
import { folderWith } from './files.ts';

const reference = join(import.meta.dirname, '../reference/data');
const rated = join(reference, 'finevision.parquet');
let folder: string;
beforeAll(async () => {
  folder = await folderWith({ 'a.parquet': await readFile(rated), 'b.parquet': await readFile(rated), 'rows.json': '[]' });
});
afterAll(() => rm(folder, { recursive: true }));

/** What stays of a table: the number of each row in its file, and what is said in it. */
async function staying(file: string, minRatings: MinRatings) {
  using rows = await openRows(file, { minRatings });
  const told = await Promise.all(
    Array.from({ length: rows.length }, async (_, i) => {
      const { name, messages } = await rows.row(i);
      expect(rows.nameOf(i)).toBe(name);
      const said = messages.map((message) => contentParts(message).map((part) => (part.type === 'text' ? part.text : `<${part.type}>`)));
      return `${name.replace(/.*#/, '')}: ${said.map((parts) => parts.join(' ')).join(' | ')}`;
    }),
  );
  return { told, leftOut: rows.leftOut };
}

const all = [
  '0: <image> what color is it? | red | is it green? | no',
  '1: <image> <image> are they red? | no',
  '2: is water wet? | yes',
  '3: <image> so  is? | yellow',
];
const [first, second, third, fourth] = all;

test.each<[MinRatings, readonly (string | undefined)[], [rows: number, questions: number]]>([
  [{ relevance: 1 }, all, [0, 0]],
  [{ relevance: 3 }, [first, second, third], [1, 0]],
  [{ relevance: 5 }, ['0: <image> what color is it? | red', second], [2, 1]],
  // The image goes in front of the first question that stays.
  [{ visual_dependency: 2 }, ['0: <image> is it green? | no', second, third, fourth], [0, 1]],
  // Each of the row's questions is too low in something.
  [{ visual_dependency: 2, relevance: 5 }, [second], [3, 0]],
  // The row's rating is the only one.
  [{ formatting: 3 }, [first, third, fourth], [1, 0]],
])('of %j stays what is rated as high, or not rated', async (minRatings, told, [rows, questions]) => {
  expect(await staying(rated, minRatings)).toEqual({ told, leftOut: { rows, questions } });
});

test('rows of conversations stay or go as a whole', async () => {
  const { told, leftOut } = await staying(join(reference, 'llava.parquet'), { relevance: 3 });
  expect(told.map((row) => row.slice(0, 1))).toEqual(['0', '2']);
  expect(leftOut).toEqual({ rows: 1, questions: 0 });
});

test('row groups keep what stays of them, and those of which nothing stays are none', async () => {
  using whole = await openRows(folder.concat('/{a,b}.parquet'));
  using rows = await openRows(folder.concat('/{a,b}.parquet'), { minRatings: { relevance: 5 } });
  const rowsOf = ({ parts }: typeof rows): number[] => parts.flatMap(({ blocks }) => blocks.map((block) => block.rows));
  expect([rowsOf(whole), rowsOf(rows)]).toEqual([
    [3, 1, 3, 1],
    [2, 2],
  ]);
  const [before, after] = [await whole.sizes(), await rows.sizes()];
  expect([...after.images]).toEqual([1, 2, 1, 2]);
  expect(after.text[0]).toBeLessThan(before.text[0] ?? 0);
  expect(after.text[1]).toBe(before.text[1]);
  using mixture = await Mixture.open([
    { file: rated, minRatings: { relevance: 5 }, limit: 1 },
    { file: rated, minRatings: { formatting: 3 } },
    { file: rated },
  ]);
  expect([mixture.length, mixture.leftOut]).toEqual([8, { rows: 3, questions: 1 }]);
});

test.each([
  ['a quality that is not rated', rated, { relevanc: 3 }, 'no ratings of relevanc: there is no column relevanc_ratings or relevanc_min'],
  ['a table without ratings', join(reference, 'cauldron.parquet'), { relevance: 3 }, 'no ratings of relevance'],
])('%s is named', async (_, file, minRatings, message) => {
  await expect(openRows(file, { minRatings })).rejects.toThrow(
    expect.objectContaining({
      message: expect.stringContaining(message),
      hint: file === rated ? 'it rates relevance, visual_dependency' : 'remove minRatings for this source',
    }),
  );
});

test('ratings that leave nothing are refused', async () => {
  await expect(openRows(rated, { minRatings: { formatting: 3, relevance: 6 } })).rejects.toThrow(
    'finevision.parquet: all 4 rows are rated too low',
  );
});

test('ratings of what is no table are refused', async () => {
  await expect(openRows(join(folder, 'rows.json'), { minRatings: { relevance: 3 } })).rejects.toThrow('rows.json has no ratings');
});

test('a dry run, the run and inspect count what is left out', async () => {
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  const data = { conversations: rated, minRatings: { relevance: 5 } };
  const stages = whole.stages.slice(0, 1).map((stage) => ({ ...stage, data, batchSize: 2, epochs: undefined, steps: 1 }));
  const recipe = parseRecipe({ ...whole, stages } as RecipeInput);
  const leftOut = { rows: 2, questions: 1 };
  expect((await dryRun(recipe)).stages[0]).toMatchObject({ rows: 2, leftOut });
  const events: LogEvent[] = [];
  await train(recipe, { workers: 0, log: (event) => void events.push(event) });
  expect(events.find(({ event }) => event === 'left-out')).toEqual({ event: 'left-out', stage: 'align', ...leftOut });
  expect(await inspectData(rated, { minRatings: data.minRatings, threads: 2 })).toMatchObject({ rows: 2, usable: 2, leftOut });
  const { stdout } = await tinyllava('inspect', rated, '--min-rating', 'relevance=4', '--min-rating', 'visual_dependency=2');
  expect(stdout).toMatch(/: 2 conversations, .*\nrated +too low: 2 rows left out, and 1 question of others\n/);
  expect((await tinyllava('inspect', rated, '--min-rating', 'relevance')).stderr).toContain('expected a quality and its least rating');
});

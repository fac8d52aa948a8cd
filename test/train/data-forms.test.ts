import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openRows } from '../../src/data/open-rows.ts';
import { contentParts } from '../../src/processor/message.ts';
import { dataFingerprints } from '../../src/train/fingerprint.ts';
import type { Recipe } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import { folderWith } from '../data/files.ts';

const table = join(import.meta.dirname, '../reference/data/captions.parquet');
let root: string;
let recipe: Recipe;

/** The same four images and captions in every form. */
beforeAll(async () => {
  root = await folderWith({});
  using rows = await openRows(table);
  const captions: { image: string; text: string }[] = [];
  mkdirSync(join(root, 'folder'));
  for (let i = 0; i < rows.length; i++) {
    const [question, answer] = (await rows.row(i)).messages.map((message) => contentParts(message)[0]);
    if (question?.type !== 'image' || answer?.type !== 'text') throw new Error('not a caption');
    writeFileSync(join(root, 'folder', `${i}.png`), question.image);
    writeFileSync(join(root, 'folder', `${i}.txt`), answer.text);
    captions.push({ image: `${i}.png`, text: answer.text });
  }
  const llava = captions.map(({ image, text }) => ({
    image,
    conversations: [
      { from: 'human', value: '<image>' },
      { from: 'gpt', value: text },
    ],
  }));
  writeFileSync(join(root, 'folder/rows.json'), JSON.stringify(llava));
  writeFileSync(join(root, 'table.tsv'), ['image\tcaption', ...captions.map(({ image, text }) => `${image}\t${text}`)].join('\n'));
  const archive = (name: string, ...keys: number[]) =>
    execFileSync('tar', ['-cf', join(root, name), ...keys.flatMap((key) => [`${key}.png`, `${key}.txt`])], { cwd: join(root, 'folder') });
  archive('shard-0.tar', 0, 1, 2);
  archive('shard-1.tar', 3);
  for (const key of [0, 1, 2, 3]) archive(`one-${key}.tar`, key);
  copyFileSync(table, join(root, 'rows.parquet'));
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  const [stage] = whole.stages;
  if (!stage) throw new Error('no stage');
  recipe = { ...whole, stages: [{ ...stage, batchSize: 3, epochs: 2, steps: undefined }] };
});
afterAll(() => rmSync(root, { recursive: true }));

const on = (conversations: string, images?: string): Recipe => ({
  ...recipe,
  stages: recipe.stages.map((stage) => ({ ...stage, data: [{ conversations, repeat: 1, ...(images !== undefined && { images }) }] })),
});

const losses = async (given: Recipe, options: TrainOptions = {}): Promise<number[]> =>
  (await train(given, { root, workers: 0, ...options })).stages.flatMap(({ steps }) => steps.map(({ loss }) => loss));

test('two epochs from any form are those from JSON', async () => {
  const expected = await losses(on('folder/rows.json'));
  expect(expected).toHaveLength(4);
  expect(await losses(on('rows.parquet'))).toEqual(expected);
  expect(await losses(on('shard-{0..1}.tar'))).toEqual(expected);
  expect(await losses(on('shard-*.tar'), { workers: 1 })).toEqual(expected);
  expect(await losses(on('folder'))).toEqual(expected);
  expect(await losses(on('table.tsv', 'folder'))).toEqual(expected);
});

/** Sampled as said, and each row once for each step. */
const sampled = (conversations: string, sampling: Partial<Recipe['stages'][number]['sampling']>): Recipe => {
  const given = on(conversations);
  return {
    ...given,
    stages: given.stages.map((stage) => ({ ...stage, batchSize: 1, sampling: { order: 'shuffle', modalities: 'mixed', ...sampling } })),
  };
};

test.each([{ buffer: 2 }, { order: 'length-grouped', modalities: 'apart' }] as const)(
  'a run that was broken off goes on to the same losses by %j, with the same shards alone',
  async (sampling) => {
    const [given, out] = [sampled('one-*.tar', sampling), join(root, `run-${Object.keys(sampling)}`)];
    const whole = await losses(given);
    expect(whole).toHaveLength(8);
    for (const last of [3, 6]) {
      const controller = new AbortController();
      const onStep = ({ step }: { step: number }): void => void (step === last && controller.abort());
      await losses(given, { out, signal: controller.signal, onStep, resume: last > 3 });
    }
    const shard = readFileSync(join(root, 'one-1.tar'));
    writeFileSync(join(root, 'one-1.tar'), Buffer.from(shard).fill('A', 520, 521));
    await expect(losses(given, { out, resume: true })).rejects.toThrow('the data has changed since');
    writeFileSync(join(root, 'one-1.tar'), shard);
    expect(await losses(given, { out, resume: true })).toEqual(whole);
  },
);

test('data is known by the names of its images too, as one without a caption is a row', async () => {
  const known = () => dataFingerprints([{ conversations: 'folder', repeat: 1 }], root);
  const before = await known();
  copyFileSync(join(root, 'folder/0.png'), join(root, 'folder/0b.png'));
  expect(await known()).not.toEqual(before);
  rmSync(join(root, 'folder/0b.png'));
  expect(await known()).toEqual(before);
});

test('a broken image in a table stops the run, or is left out, with the name of its row', async () => {
  const broken = on(join(import.meta.dirname, '../reference/data/broken.parquet'));
  const named = 'broken.parquet#3: an image of 40 bytes cannot be decoded as an image';
  await expect(losses(broken)).rejects.toThrow(named);
  const reasons: unknown[] = [];
  const log: TrainOptions['log'] = ({ event, reason }) => event === 'skipped-row' && reasons.push(reason);
  const skipping = { ...broken, stages: broken.stages.map((stage) => ({ ...stage, unusableRows: 'skip' as const })) };
  expect(await losses(skipping, { log })).toHaveLength(4);
  expect(reasons).toEqual([expect.stringContaining(named), expect.stringContaining(named)]);
});

test('an epoch sees every row once, however many of them are left out', async () => {
  const rows = JSON.parse(readFileSync(join(root, 'folder/rows.json'), 'utf8')) as { image: string }[];
  writeFileSync(join(root, 'folder/holes.json'), JSON.stringify(rows.map((row, i) => ({ ...row, image: i < 1 ? row.image : 'none.png' }))));
  const given = on('folder/holes.json');
  const stages = given.stages.map((stage) => ({ ...stage, batchSize: 1, unusableRows: 'skip' as const }));
  const skipped: unknown[] = [];
  const log: TrainOptions['log'] = ({ event, row }) => event === 'skipped-row' && skipped.push(row);
  expect(await losses({ ...given, stages }, { log })).toHaveLength(2);
  expect(skipped.toSorted()).toEqual([1, 1, 2, 2, 3, 3]);
  writeFileSync(join(root, 'folder/holes.json'), JSON.stringify(rows.map((row) => ({ ...row, image: 'none.png' }))));
  for (const epochs of [1, 9]) {
    const none = losses({ ...given, stages: stages.map((stage) => ({ ...stage, epochs })) });
    await expect(none).rejects.toThrow('none of the first 4 rows of stage align can be used');
  }
});

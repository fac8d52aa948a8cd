import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dataFolderOf, fileAt, placeOf } from '../../src/evaluate/image-places.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-places-'));
const [data, cache] = [join(root, 'data'), join(root, 'cache')];
const before = process.env['TINYLLAVA_CACHE'];

beforeAll(() => {
  process.env['TINYLLAVA_CACHE'] = cache;
  for (const folder of [data, cache]) mkdirSync(folder);
  writeFileSync(join(cache, 'unpacked.png'), '');
});
afterAll(() => {
  if (before === undefined) delete process.env['TINYLLAVA_CACHE'];
  else process.env['TINYLLAVA_CACHE'] = before;
  rmSync(root, { recursive: true });
});

describe('images of samples', () => {
  test('are named below the data folder or the cache folder, absolutely elsewhere', () => {
    expect(placeOf(join(data, 'val/1.png'), data)).toBe('val/1.png');
    expect(placeOf(join(data, '..val/1.png'), `${data}/`)).toBe('..val/1.png');
    expect(placeOf(join(cache, 'unpacked.png'), data)).toBe('unpacked.png');
    expect(placeOf(`${data}-more/1.png`, data)).toBe(`${data}-more/1.png`);
    expect(placeOf('1.png', data)).toBe(join(process.cwd(), '1.png'));
    expect(placeOf('data:image/png;base64,AA', data)).toBe('data:image/png;base64,AA');
  });

  test('are found where the data is now, in the cache folder, or where older runs say', () => {
    expect(fileAt('val/1.png', '/elsewhere')).toBe('/elsewhere/val/1.png');
    expect(fileAt('unpacked.png', data)).toBe(join(cache, 'unpacked.png'));
    expect(fileAt('/old/1.png', data)).toBe('/old/1.png');
    expect(fileAt('https://a.org/1.png', data)).toBe('https://a.org/1.png');
  });

  test('are in the data folder that a run ended with, if it says', async () => {
    const samples = join(root, 'samples_vqa.jsonl');
    expect(await dataFolderOf(samples)).toBeUndefined();
    writeFileSync(join(root, 'timings.json'), '{ "batchSize": 8, "tasks": {} }');
    expect(await dataFolderOf(samples)).toBeUndefined();
    writeFileSync(join(root, 'timings.json'), JSON.stringify({ data }));
    expect(await dataFolderOf(samples)).toBe(data);
  });
});

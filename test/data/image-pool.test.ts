import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ImagePool } from '../../src/data/image-pool.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { colour, folderWith } from './files.ts';

const processor = new ImageProcessor({ size: { height: 2, width: 3 } });
const bytes = 3 * 2 * 3;

const images = async (): Promise<(name: string) => string> => {
  const folder = await folderWith({ a: await colour(255, 0, 0), b: await colour(0, 255, 0), c: await colour(0, 0, 255), broken: 'x' });
  return (name) => join(folder, name);
};

describe.each([0, 1])('with %i threads', (workers) => {
  test('paths, bytes and data: URLs give what the processor gives', async () => {
    const path = await images();
    await using pool = new ImagePool(processor, { workers });
    const encoded = await colour(1, 2, 3);
    const sources = [path('a'), path('b'), encoded, `data:image/png;base64,${Buffer.from(encoded).toString('base64')}`];
    const loaded = await Promise.all(sources.map((source) => pool.load(source)));
    for (const [i, source] of sources.entries()) expect(loaded[i]).toEqual(await processor.loadBytes(source));
    expect(encoded.length).toBeGreaterThan(0);
  });

  test('an image that fails is named with its fix, and is tried again', async () => {
    const path = await images();
    await using pool = new ImagePool(processor, { workers });
    for (const _ of [1, 2]) {
      await expect(pool.load(path('broken'))).rejects.toMatchObject({
        name: 'DataError',
        message: expect.stringContaining(path('broken')),
        hint: expect.stringContaining('fetch it again'),
      });
    }
    expect((await pool.load(path('a'))).length).toBe(bytes);
  });

  test('an image on its way is loaded once', async () => {
    const path = await images();
    await using pool = new ImagePool(processor, { workers, cacheBytes: 0 });
    expect(pool.load(path('a'))).toBe(pool.load(path('a')));
  });
});

test('the longest unused images leave a full cache', async () => {
  const path = await images();
  await using pool = new ImagePool(processor, { workers: 0, cacheBytes: 2 * bytes + 1 });
  for (const name of ['a', 'b', 'a', 'c']) await pool.load(path(name));
  for (const name of ['a', 'b', 'c']) await rm(path(name));
  expect((await pool.load(path('a'))).length).toBe(bytes);
  expect((await pool.load(path('c'))).length).toBe(bytes);
  await expect(pool.load(path('b'))).rejects.toThrow('does not exist');
});

test('a closed pool refuses', async () => {
  const path = await images();
  const pool = new ImagePool(processor, { workers: 1 });
  const pending = expect(pool.load(path('a'))).rejects.toThrow('the image pool was closed');
  await pool.close();
  await pending;
  await expect(pool.load(path('b'))).rejects.toThrow('the image pool was closed');
});

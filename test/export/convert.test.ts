import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { convert } from '../../src/export/convert.ts';
import { checkSpace } from '../../src/export/destination.ts';
import { reference } from '../model/reference.ts';
import { scratchFolder, tinyFolder, vit, withTokenizer } from './models.ts';

const scratch = scratchFolder();
const source = reference('llava-siglip').folder;

const complaint = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: TinyLlavaError) => `${error.name}: ${error.message}\nfix: ${error.hint}`.replaceAll(`${scratch}/`, ''),
  );

describe('the destination', () => {
  test('that exists is refused, and replaced when told to', async () => {
    const target = join(scratch, 'there');
    await convert(source, target, { to: 'hf' });
    writeFileSync(join(target, 'marker'), '');
    expect(await complaint(convert(source, target, { to: 'hf' }))).toMatchInlineSnapshot(`
      "CheckpointError: there exists
      fix: choose another path, or replace it with --force"
    `);
    expect(existsSync(join(target, 'marker'))).toBe(true);
    await convert(source, target, { to: 'hf', force: true });
    expect(existsSync(join(target, 'marker'))).toBe(false);
  });

  test('that is no model is not replaced by force', async () => {
    const target = join(scratch, 'photos');
    mkdirSync(target);
    writeFileSync(join(target, 'cat.jpg'), '');
    expect(await complaint(convert(source, target, { to: 'hf', force: true }))).toMatchInlineSnapshot(`
      "CheckpointError: photos is not a model's folder, and is not replaced
      fix: choose another path"
    `);
    expect(readdirSync(target)).toEqual(['cat.jpg']);
  });

  test('that is the model, or holds it, is refused', async () => {
    const inner = join(scratch, 'outer', 'inner');
    await convert(source, inner, { to: 'hf' });
    const refusal = await complaint(convert(inner, join(inner, '..', 'inner'), { to: 'hf', force: true }));
    expect(refusal).toMatchInlineSnapshot(`
      "CheckpointError: outer/inner: is the model that is converted, or holds it
      fix: give a path beside it"
    `);
    expect(await complaint(convert(inner, join(scratch, 'outer'), { to: 'hf', force: true }))).toContain('or holds it');
  });

  test('has nothing in it when a conversion fails, nor beside it', async () => {
    const broken = withTokenizer('qwen2', scratch);
    writeFileSync(join(broken, 'model.safetensors'), readFileSync(join(broken, 'model.safetensors')).subarray(0, -4));
    const before = readdirSync(scratch);
    expect(await complaint(convert(broken, join(scratch, 'failed'), { to: 'hf' }))).toContain('cut short');
    const full = join(scratch, 'failed.gguf');
    expect(await complaint(convert(source, full, { to: 'gguf' }))).toContain('tokenizer');
    expect(readdirSync(scratch)).toEqual(before);
  });

  test('has nothing in it when a conversion is interrupted', async () => {
    const before = readdirSync(scratch);
    const controller = new AbortController();
    const running = convert(source, join(scratch, 'interrupted'), { to: 'hf', signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
    expect(readdirSync(scratch)).toEqual(before);
  });

  test('without room on its disk is refused before anything is written', async () => {
    expect(await complaint(checkSpace({ path: join(scratch, 'a', 'b') }, 1e18))).toMatch(
      /^CheckpointError: a\/b: the result takes 1,000,000,000 GB, its disk has [\d.,]+ GB left\nfix: free space/,
    );
  });

  test('that is full is said to be', async () => {
    // a device that has no room for anything
    if (!existsSync('/dev/full')) return;
    const { writeDestination } = await import('../../src/export/destination.ts');
    const path = join(scratch, 'full');
    const failing = writeDestination({ path }, async () => writeFileSync('/dev/full', 'x'));
    expect(await complaint(failing)).toMatchInlineSnapshot(`
      "CheckpointError: full: the disk is full
      fix: nothing was left behind; free space, or choose another disk"
    `);
    expect(existsSync(path)).toBe(false);
  });
});

describe('what is asked for', () => {
  test('has to be a format, and an option of it', async () => {
    const target = join(scratch, 'never');
    expect(await complaint(convert(source, target, { to: 'ggfu' }))).toMatchInlineSnapshot(`
      "UsageError: unknown format "ggfu"
      fix: did you mean "gguf"? known: hf, factory-v1, gguf"
    `);
    expect(await complaint(convert(source, target, { to: 'hf', type: 'q8_0' }))).toMatchInlineSnapshot(`
      "UsageError: --type does not go with --to hf
      fix: use --dtype"
    `);
    expect(await complaint(convert(withTokenizer('qwen2', scratch, 'pieces'), target, { to: 'gguf', type: 'q8' }))).toMatchInlineSnapshot(`
      "UsageError: unknown type "q8"
      fix: did you mean "q8_0"? known: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0"
    `);
  });
});

test('GGUF files of a model that sees lie in a folder of their own, or beside each other', async () => {
  const folder = join(scratch, 'sees');
  await tinyFolder(folder, { vision: { type: 'siglip', ...vit }, connector: { type: 'mlp' } });
  const inside = await convert(folder, join(scratch, 'files'), { to: 'gguf' });
  expect(readdirSync(join(scratch, 'files')).sort()).toEqual(['files.gguf', 'mmproj-files.gguf']);
  const beside = await convert(folder, join(scratch, 'shelf', 'small.gguf'), { to: 'gguf', type: 'q8_0' });
  expect(readdirSync(join(scratch, 'shelf')).sort()).toEqual(['mmproj-small.gguf', 'small.gguf']);
  expect([inside, beside].map(({ stored, files }) => [stored, files.length])).toEqual([
    ['f16', 2],
    ['q8_0', 2],
  ]);
});

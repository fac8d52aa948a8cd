import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { saveCheckpoint } from '../../src/model/checkpoint.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { Generator } from '../../src/tensor/random.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-memory-'));
afterAll(() => rmSync(root, { recursive: true }));

// What garbage and the allocator add to a peak, whatever the size of the weights.
const slack = 24e6;

test('opening takes the memory of the weights, also when they are converted, and mapped next to none', async () => {
  const shape = { hiddenSize: 512, intermediateSize: 1536, numAttentionHeads: 8, numHiddenLayers: 12, vocabSize: 8000 };
  const model = createTinyLlava({ language: { type: 'llama', ...shape } });
  model.initialize(new Generator(1), { dtype: 'bfloat16' });
  await saveCheckpoint(join(root, 'model'), model);
  const opened = (how: object): { peak: number; bytes: number } => {
    const argv = ['--import', 'tsx', 'bench/load.ts', '--opened', join(root, 'model'), '--how', JSON.stringify(how)];
    return JSON.parse(spawnSync(process.execPath, argv, { encoding: 'utf8' }).stdout) as { peak: number; bytes: number };
  };
  const [stored, wide, mapped] = [opened({}), opened({ dtype: 'float32' }), opened({ mapped: true })];
  expect(stored.bytes).toBeGreaterThan(80e6);
  expect(wide.bytes).toBe(2 * stored.bytes);
  expect(stored.peak).toBeLessThan(stored.bytes + slack);
  expect(wide.peak).toBeLessThan(wide.bytes + slack);
  expect(mapped.peak).toBeLessThan(slack);
}, 60_000);

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const addon = process.env['TINYLLAVA_ADDON'] ?? join(root, 'build/tinyllava.node');

test.each([1, 2, 3])('no operator crashes on arguments that make no sense (seed %i)', (seed) => {
  const run = spawnSync(
    process.execPath,
    [join(import.meta.dirname, 'fuzz-operators.mjs'), addon, join(root, 'scripts/operators.txt'), String(seed), '100'],
    { encoding: 'utf8', timeout: 60_000 },
  );
  expect({ status: run.status, signal: run.signal, stderr: run.stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  const { calls, refused } = JSON.parse(run.stdout) as { calls: number; refused: number };
  expect(refused).toBeGreaterThan(calls / 2);
  expect(refused).toBeLessThan(calls);
});

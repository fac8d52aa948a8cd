import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';

const addon = process.env['TINYLLAVA_ADDON'] ?? join(import.meta.dirname, '../../build/tinyllava.node');

// Plain JavaScript on the bare addon, so that a worker needs no TypeScript loader.
const work = `
  const { parentPort, workerData } = require('node:worker_threads');
  const native = require(workerData.addon);
  const mm = native.bind('aten::mm', '');
  const x = native.fromData(new Float32Array(64 * 64).fill(workerData.value), [64, 64], 6);
  let y = x;
  for (let i = 0; i < 200; i++) { const next = mm(x, x); if (y !== x) native.free(y); y = next; }
  const out = new Float32Array(64 * 64);
  native.toData(y, out);
  parentPort.postMessage([out[0], native.live()[0]]);
`;

test('several workers load the addon at once, each with its own handles', async () => {
  expect(existsSync(addon)).toBe(true);
  const answers = await Promise.all(
    [1, 2, 3, 4].map(
      (value) =>
        new Promise<[number, number]>((resolve, reject) => {
          const worker = new Worker(work, { eval: true, workerData: { addon, value } });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  expect(answers).toEqual([1, 2, 3, 4].map((value) => [64 * value * value, 2]));
});

test.each([
  ['with live tensors', 'native.fromData(new Float32Array(4), [4], 6)'],
  ['from inside a worker', 'new (require("node:worker_threads").Worker)("require(process.env.ADDON).manualSeed(1)", { eval: true })'],
  [
    'by process.exit',
    'native.bind("aten::mm", "")(...[0, 1].map(() => native.fromData(new Float32Array(1e6), [1000, 1000], 6))); process.exit(0)',
  ],
  ['after an error that nobody caught was reported', 'try { native.shape(3) } catch {}'],
])('a process ends quietly %s', (_, body) => {
  const run = spawnSync(process.execPath, ['-e', `const native = require(process.env.ADDON); ${body}`], {
    env: { ...process.env, ADDON: addon },
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect({ status: run.status, signal: run.signal, stderr: run.stderr }).toEqual({ status: 0, signal: null, stderr: '' });
});

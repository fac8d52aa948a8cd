import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const run = (example: string) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', join(root, 'examples', example)], {
    cwd: root,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
};

test('tensor.ts finds the line', () => {
  expect(run('tensor.ts')).toEqual({ status: 0, stdout: 'y = 2.99 x - 0.48\n', stderr: '' });
});

test('connector.ts puts a part of its own into a model', () => {
  expect(run('connector.ts')).toMatchInlineSnapshot(`
    {
      "status": 0,
      "stderr": "",
      "stdout": "2 images become embeddings [2, 16, 32]
    norm.weight [32]
    norm.bias [32]
    linear.weight [32, 32]
    linear.bias [32]
    ",
    }
  `);
});

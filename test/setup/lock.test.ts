import { existsSync, readFileSync, utimesSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withLock } from '../../scripts/setup/lock.mjs';
import { machine } from './machine.ts';

test('holders of one lock work one after another, and leave no lock behind', async () => {
  const on = machine();
  const path = join(on.root, 'lock');
  let inside = 0;
  const work = async (): Promise<number> => {
    inside += 1;
    const seen = inside;
    await new Promise((resolve) => setTimeout(resolve, 20));
    inside -= 1;
    return seen;
  };
  const run = (): Promise<number> => withLock(path, work, { pollMs: 5 });
  expect(await Promise.all([run(), run(), run(), run()])).toEqual([1, 1, 1, 1]);
  expect(existsSync(path)).toBe(false);
});

test('a lock is given back when its work fails', async () => {
  const on = machine();
  const path = join(on.root, 'lock');
  await expect(withLock(path, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(existsSync(path)).toBe(false);
});

test.each([
  ['a process of this machine that is gone', `${hostname()} 4194305\n`, 0],
  ['another machine that has not been heard of for minutes', 'elsewhere 1\n', 600],
  ['a process that was killed while it wrote', '', 600],
])('the lock of %s is taken over', async (_, holder, secondsAgo) => {
  const on = machine();
  on.write('lock', holder);
  const path = join(on.root, 'lock');
  const then = new Date(Date.now() - secondsAgo * 1000);
  utimesSync(path, then, then);
  expect(await withLock(path, async () => readFileSync(path, 'utf8'))).toBe(`${hostname()} ${process.pid}\n`);
});

test('the lock of another machine that is at work is waited for', async () => {
  const on = machine();
  on.write('lock', 'elsewhere 1\n');
  const path = join(on.root, 'lock');
  const entered = withLock(path, async () => 'entered', { pollMs: 5 });
  expect(await Promise.race([entered, new Promise((resolve) => setTimeout(() => resolve('waiting'), 50))])).toBe('waiting');
  const then = new Date(Date.now() - 600_000);
  utimesSync(path, then, then);
  expect(await entered).toBe('entered');
});

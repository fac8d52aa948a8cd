import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkUnlocked, type FolderLockOptions, lockFolder } from '../src/folder-lock.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tinyllava-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const options: FolderLockOptions = { work: 'evaluation' };
const lock = () => join(folder, 'evaluation.lock');
const left = (holder: unknown): void => writeFileSync(lock(), typeof holder === 'string' ? holder : JSON.stringify(holder));
const own = (): { host: string; pid: number; started: string } => {
  using _held = lockFolder(folder, options);
  return JSON.parse(readFileSync(lock(), 'utf8'));
};

test.runIf(process.platform === 'linux')(
  'a folder that the system says does not exist, and lets nobody make, is refused and not tried for ever',
  () => {
    expect(() => lockFolder('/proc/a/b', options)).toThrow('/proc/a/b cannot be written to: ENOENT');
  },
);

test('a folder is held until the lock is disposed of, by one run of each work', () => {
  {
    using _held = lockFolder(folder, options);
    expect(() => lockFolder(folder, options)).toThrow(
      `${folder} is being written by another evaluation run (process ${process.pid} on ${hostname()})`,
    );
    expect(() => checkUnlocked(folder, options)).toThrow('another evaluation run');
    using _other = lockFolder(folder, { work: 'training' });
  }
  expect(readdirSync(folder)).toEqual([]);
  using _again = lockFolder(folder, options);
});

test('a folder is made where there is none, and one that cannot be is refused', () => {
  const inside = join(folder, 'a/b');
  lockFolder(inside, options)[Symbol.dispose]();
  expect(readdirSync(inside)).toEqual([]);
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'inside')]) expect(() => lockFolder(path, options)).toThrow(`${path} cannot be written to: E`);
});

test('a lock that was replaced is left to whom it is of', () => {
  const held = lockFolder(folder, options);
  left({ host: 'elsewhere', pid: 1, started: '' });
  held[Symbol.dispose]();
  expect(readdirSync(folder)).toEqual(['evaluation.lock']);
  expect(JSON.parse(readFileSync(lock(), 'utf8')).host).toBe('elsewhere');
});

test('the lock of a process that is gone is taken over, also where another one has its number by now', () => {
  for (const gone of [{ pid: 999_999_999 }, ...(process.platform === 'linux' ? [{ started: '1' }, { pid: process.ppid }] : [])]) {
    left({ ...own(), ...gone });
    checkUnlocked(folder, options);
    using _held = lockFolder(folder, options);
    expect(JSON.parse(readFileSync(lock(), 'utf8')).pid).toBe(process.pid);
    expect(readdirSync(folder)).toEqual(['evaluation.lock']);
  }
});

test('what a process has left that was killed while it removed its lock goes with the next one', () => {
  const [gone, alive] = [{ ...own(), pid: 999_999_999 }, own()];
  writeFileSync(`${lock()}.999999999`, JSON.stringify(gone));
  writeFileSync(`${lock()}.1`, JSON.stringify(alive));
  lockFolder(folder, options)[Symbol.dispose]();
  expect(readdirSync(folder)).toEqual(['evaluation.lock.1']);
});

test.skipIf(process.platform !== 'linux')('a killed process whose parent does not ask for it counts as gone', async () => {
  // exec replaces the shell by one that never waits for the child that it has inherited
  const parent = spawn('sh', ['-c', 'sleep 100 & echo $!; exec sleep 100'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const pid = Number(String((await once(parent.stdout, 'data'))[0]));
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  left({ host: hostname(), pid, started: stat.split(' ')[21] });
  expect(() => checkUnlocked(folder, options)).toThrow(`(process ${pid} on ${hostname()})`);
  // until then the shell would ask
  while (!readFileSync(`/proc/${parent.pid}/stat`, 'utf8').includes('(sleep)')) await new Promise((resolve) => setTimeout(resolve, 5));
  process.kill(pid, 'SIGKILL');
  while (!readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')) await new Promise((resolve) => setTimeout(resolve, 5));
  checkUnlocked(folder, options);
  parent.kill('SIGKILL');
});

test('a process on another host counts as running, unless schedulers start the work again', () => {
  left({ host: 'elsewhere', pid: 1, started: '' });
  expect(() => lockFolder(folder, options)).toThrow(expect.objectContaining({ hint: expect.stringContaining(`remove ${lock()}`) }));
  using _held = lockFolder(folder, { ...options, elsewhere: 'gone' });
  expect(JSON.parse(readFileSync(lock(), 'utf8')).host).toBe(hostname());
});

test('a lock that says nothing is named', () => {
  left('');
  expect(() => lockFolder(folder, options)).toThrow(`${lock()} does not say by whom`);
});

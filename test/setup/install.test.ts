import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requireSpace } from '../../scripts/setup/cache.mjs';
import { fetchEasyVqa } from '../../scripts/setup/easy-vqa.mjs';
import { installLibtorch } from '../../scripts/setup/libtorch.mjs';
import { failure, fakePython, installsTorch, type Machine, machine } from './machine.ts';

const installs = (on: Machine): number => on.calls().filter((call) => call.includes(' pip install ')).length;
const place = (on: Machine): string => join(on.cache, 'libtorch/2.15.0-cpu');

test('libtorch is installed once, with the two packages that its CPU library needs', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  expect(await installLibtorch({ ...on, gpu: false })).toEqual({
    folder: join(place(on), 'torch'),
    version: '2.15.0',
    cuda: false,
    source: 'cache',
  });
  await installLibtorch({ ...on, gpu: false });
  expect(installs(on)).toBe(1);
  expect(on.calls().at(-1)).toMatch(/--no-deps torch==2\.15\.0 nvidia-cuda-runtime==13\.2\.\* nvidia-cuda-cupti==13\.2\.\*$/);
  expect(on.said).toEqual(['installing PyTorch 2.15.0 into ~/cache/libtorch/2.15.0-cpu']);
});

test('on a machine with a GPU all dependencies are installed, with the headers that NCCL needs', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  expect(await installLibtorch({ ...on, gpu: true })).toMatchObject({ cuda: true });
  expect(on.calls().at(-1)).toMatch(/--implementation cp --python-version 3\.12 .*torch==2\.15\.0 nvidia-cuda-crt==13\.2\.\*$/);
  expect(on.calls().at(-1)).not.toContain('--no-deps');
});

test('what a killed install left is removed and its lock is taken over', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  on.write('cache/libtorch/2.15.0-cpu.partial-77/site/torch/lib/libc10.so', 'half');
  // No process has this id: it is above the largest that Linux gives.
  on.write('cache/libtorch/2.15.0-cpu.lock', `${hostname()} 4194305\n`);
  await installLibtorch({ ...on, gpu: false });
  expect(readdirSync(join(on.cache, 'libtorch'))).toEqual(['2.15.0-cpu']);
});

test('an install that lost a file is replaced', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  await installLibtorch({ ...on, gpu: false });
  rmSync(join(place(on), 'torch/lib/libc10.so'));
  await installLibtorch({ ...on, gpu: false });
  expect(installs(on)).toBe(2);
  expect(on.said.slice(1)).toEqual([
    'replacing what is damaged in ~/cache/libtorch/2.15.0-cpu',
    'installing PyTorch 2.15.0 into ~/cache/libtorch/2.15.0-cpu',
  ]);
});

test('of two installs at once one waits for the other', async () => {
  const on = machine();
  fakePython(on, { install: `sleep 0.3\n${installsTorch}` });
  const [first, second] = await Promise.all([installLibtorch({ ...on, gpu: false }), installLibtorch({ ...on, gpu: false })]);
  expect(second).toEqual(first);
  expect(installs(on)).toBe(1);
  expect(on.said).toContain('another process is installing PyTorch 2.15.0; waiting for it');
});

test('no Python, no pip and an old pip are told apart', async () => {
  const on = machine();
  expect(await failure(on, () => installLibtorch({ ...on, gpu: false }))).toMatchInlineSnapshot(`
    "no Python found: python3 is not on PATH
      fix: install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip), or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  on.command('python3', 'echo "No module named pip" >&2; exit 1');
  expect(await failure(on, () => installLibtorch({ ...on, gpu: false }))).toMatchInlineSnapshot(`
    "no pip found: ~/bin/python3 -m pip does not run
      fix: install pip (Debian, Ubuntu: sudo apt install python3-pip; elsewhere: ~/bin/python3 -m ensurepip), or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  on.command('python3', 'echo "pip 9.0.1 from somewhere (python 3.6)"');
  expect(await failure(on, () => installLibtorch({ ...on, gpu: false }))).toMatchInlineSnapshot(`
    "pip 9 is too old; 20 or later is needed
      fix: run ~/bin/python3 -m pip install --upgrade pip, or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
});

test('each way that pip fails has its message, leaves nothing behind, and the next run recovers', async () => {
  const on = machine();
  const failing = (output: string): Promise<string> => {
    fakePython(on, { install: `mkdir -p "$target/torch"; echo "${output}" >&2; exit 1` });
    return failure(on, () => installLibtorch({ ...on, gpu: false }));
  };
  expect(await failing('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device')).toMatchInlineSnapshot(`
    "the disk became full while installing PyTorch 2.15.0
      fix: free some space (also where pip keeps its cache), or set TINYLLAVA_CACHE to a folder on another disk, and run this again"
  `);
  expect(await failing('WARNING: Retrying after NewConnectionError\nERROR: Could not find a version')).toMatchInlineSnapshot(`
    "the package index could not be reached to install PyTorch 2.15.0
      fix: check the network and pip's index and proxy (python3 -m pip config list), and run this again, or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  expect(await failing('ERROR: No matching distribution found for torch==2.15.0')).toMatchInlineSnapshot(`
    "the package index does not offer PyTorch 2.15.0 for this machine
      fix: check which index pip uses (python3 -m pip config list), or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  expect(await failing('ERROR: something new')).toMatchInlineSnapshot(`
    "pip could not install PyTorch 2.15.0: ERROR: something new
      fix: see pip's messages above, and run this again, or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  expect(readdirSync(join(on.cache, 'libtorch'))).toEqual([]);
  fakePython(on, { install: installsTorch });
  await installLibtorch({ ...on, gpu: false });
  expect(existsSync(place(on))).toBe(true);
});

test('a disk that is too small is noticed before anything is fetched', async () => {
  const on = machine();
  const message = await failure(on, () => requireSpace(on.root, 1e18, 'installing PyTorch'));
  expect(message.replace(/[\d.]+ GB left/, 'N GB left')).toMatchInlineSnapshot(`
    "installing PyTorch needs 1000000000.0 GB of disk and ~ has N GB left
      fix: free some space there (or set TINYLLAVA_CACHE to a folder on another disk, for what clones share) and run this again"
  `);
});

test('a cache that cannot be written is named', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  writeFileSync(on.cache, 'a file where the folder should be');
  expect(await failure(on, () => installLibtorch({ ...on, gpu: false }))).toMatchInlineSnapshot(`
    "a file or folder cannot be used (ENOTDIR: not a directory, mkdir '~/cache/libtorch')
      fix: make the folder writable, or set TINYLLAVA_CACHE to one that is (for what clones share), and run this again"
  `);
});

const installsEasyVqa = `data="$target/easy_vqa/data"
mkdir -p "$data/train/images" "$data/test/images" "$target/easy_vqa-1.0.dist-info"
for split in train test; do echo '[]' > "$data/$split/questions.json"; echo png > "$data/$split/images/0.png"; done
echo yes > "$data/answers.txt"
echo MIT > "$target/easy_vqa-1.0.dist-info/LICENSE"`;

test('easy-vqa is fetched once, with its licence, and again when an image is lost', async () => {
  const on = machine();
  fakePython(on, { install: installsEasyVqa });
  const folder = await fetchEasyVqa(on);
  expect(readdirSync(folder).sort()).toEqual(['LICENSE', 'answers.txt', 'complete.json', 'test', 'train']);
  await fetchEasyVqa(on);
  expect(installs(on)).toBe(1);
  rmSync(join(folder, 'test/images/0.png'));
  await fetchEasyVqa(on);
  expect(installs(on)).toBe(2);
  expect(readdirSync(join(folder, 'test/images'))).toEqual(['0.png']);
});

test('the folder that a caller made for the cache is kept', async () => {
  const on = machine();
  mkdirSync(on.cache);
  on.write('cache/notes.txt', 'mine');
  fakePython(on, { install: installsTorch });
  await installLibtorch({ ...on, gpu: false });
  expect(readdirSync(on.cache).sort()).toEqual(['libtorch', 'notes.txt']);
});

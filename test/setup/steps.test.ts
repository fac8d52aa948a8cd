import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { setup } from '../../scripts/setup/steps.mjs';
import { failure, fakePython, fakeTools, installsTorch, type Machine, machine, makeAddon, makeLibtorch } from './machine.ts';

const lock = JSON.stringify({ packages: { '': {}, 'node_modules/node-api-headers': { version: '1.9.0', integrity: 'sha512-x' } } });
const installsPackages = `mkdir -p node_modules/node-api-headers/include
echo '{}' > node_modules/node-api-headers/package.json
echo header > node_modules/node-api-headers/include/node_api.h
echo '${lock}' > node_modules/.package-lock.json`;

function freshClone(): { on: Machine; run: (env?: Record<string, string>) => Promise<void> } {
  const on = machine();
  on.write('package.json', '{}');
  on.write('package-lock.json', lock);
  on.write('native/addon.cc', '// code');
  on.command('npm', installsPackages);
  fakePython(on, { install: installsTorch });
  fakeTools(on, `cp "${makeAddon(on)}" "$folder/tinyllava.node"`);
  return { on, run: (env = on.env) => setup({ env, root: on.root, gpu: false, say: on.say }) };
}

test('a fresh clone gets packages, libtorch and the addon; nothing runs where nothing changed', async () => {
  const { on, run } = freshClone();
  await run();
  expect(on.said).toMatchInlineSnapshot(`
    [
      "installing PyTorch 2.15.0 into ~/cache/libtorch/2.15.0-cpu",
      "installing npm packages",
      "building the addon with gcc 12.2.0 against PyTorch 2.15.0 in ~/cache/libtorch/2.15.0-cpu/torch",
    ]
  `);
  const calls = on.calls().length;
  await run();
  expect(on.calls()).toHaveLength(calls);
});

test('a second clone shares the libtorch of the first', async () => {
  const { on, run } = freshClone();
  await run();
  rmSync(join(on.root, 'build'), { recursive: true });
  rmSync(join(on.root, 'node_modules'), { recursive: true });
  await run();
  expect(on.said.filter((line) => line.startsWith('installing PyTorch'))).toHaveLength(1);
});

test('a libtorch in the cache that was cut short after the build is installed again', async () => {
  const { on, run } = freshClone();
  await run();
  writeFileSync(join(on.cache, 'libtorch/2.15.0-cpu/torch/lib/libc10.so'), 'lib');
  await run();
  expect(on.said).toContain('replacing what is damaged in ~/cache/libtorch/2.15.0-cpu');
});

test('a package folder that was removed is installed again', async () => {
  const { on, run } = freshClone();
  await run();
  rmSync(join(on.root, 'node_modules/node-api-headers'), { recursive: true });
  await run();
  expect(on.calls().filter((call) => call.startsWith('npm '))).toHaveLength(2);
});

test('on a bare machine nothing is fetched before everything that is missing is named', async () => {
  const { on, run } = freshClone();
  for (const name of ['python3', 'g++', 'cmake', 'ninja']) rmSync(join(on.root, 'bin', name));
  expect(await failure(on, () => run())).toMatchInlineSnapshot(`
    "4 things are missing
    - no C++ compiler found: neither g++ nor clang++ is on PATH
      fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one
    - no CMake found: cmake is not on PATH
      fix: install CMake 3.18 or later (Debian, Ubuntu: sudo apt install cmake; Fedora: sudo dnf install cmake; anywhere: python3 -m pip install cmake)
    - neither ninja nor make is on PATH
      fix: install one (Debian, Ubuntu: sudo apt install ninja-build, or make)
    - no Python found: python3 is not on PATH
      fix: install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip), or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  expect(on.calls()).toEqual([]);
});

test('a lock file without the packages of other platforms is installed all the same', async () => {
  const { on, run } = freshClone();
  on.command('npm', `[ "$1" = ci ] && echo "npm error code EUSAGE" && exit 1\n${installsPackages}`);
  await run();
  const verbs = on.calls().filter((call) => call.startsWith('npm '));
  expect(verbs.map((call) => call.split(' --include')[0])).toEqual(['npm ci', 'npm install --no-save']);
});

test.each([
  ['npm error code ENOTFOUND', 'no package registry could be reached to install npm packages'],
  ['npm error code ENOSPC', 'the disk became full while installing npm packages'],
  ['npm error code E500', 'the npm packages could not be installed'],
])('"%s" becomes "%s", and the next run recovers', async (output, message) => {
  const { on, run } = freshClone();
  on.command('npm', `echo "${output}" >&2; exit 1`);
  expect((await failure(on, () => run())).split('\n')[0]).toBe(message);
  on.command('npm', installsPackages);
  await run();
});

test('LIBTORCH that is set later is built against, and no longer when it is unset', async () => {
  const { on, run } = freshClone();
  await run();
  execFileSync('/bin/sh', ['-c', makeLibtorch(join(on.root, 'own'), '2.13.0')]);
  await run({ ...on.env, LIBTORCH: join(on.root, 'own') });
  await run();
  expect(on.said.filter((line) => line.startsWith('building')).map((line) => line.split('against ')[1])).toEqual([
    'PyTorch 2.15.0 in ~/cache/libtorch/2.15.0-cpu/torch',
    'PyTorch 2.13.0 in ~/own',
    'PyTorch 2.15.0 in ~/cache/libtorch/2.15.0-cpu/torch',
  ]);
});

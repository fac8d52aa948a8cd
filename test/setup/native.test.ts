import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildNative, isBuilt } from '../../scripts/setup/native.mjs';
import { probe } from '../../scripts/setup/probe.mjs';
import type { Finding } from '../../src/cli/doctor.ts';
import { failure, fakeTools, type Machine, machine, makeAddon, makeLibtorch } from './machine.ts';

const copies = (addon: string): string => `cp "${addon}" "$folder/tinyllava.node"`;

interface Clone {
  readonly root: string;
  readonly build: string;
  readonly env: Record<string, string>;
  readonly say: (line: string) => void;
  readonly libtorch: { folder: string; version: string; cuda: boolean; source: 'cache' };
}

function clone(on: Machine): Clone {
  on.write('package.json', '{}');
  on.write('native/addon.cc', '// code');
  on.write('node_modules/node-api-headers/package.json', '{}');
  on.write('node_modules/node-api-headers/include/node_api.h', '// header');
  const folder = join(on.root, 'cache/torch');
  execFileSync('/bin/sh', ['-c', makeLibtorch(folder)]);
  return {
    root: on.root,
    build: join(on.root, 'build'),
    env: on.env,
    say: on.say,
    libtorch: { folder, version: '2.15.0', cuda: false, source: 'cache' },
  };
}

/** What doctor says of NCCL. */
const nccl = (on: Machine): Finding | undefined =>
  JSON.parse(JSON.stringify(probe(on.env, on.root)).replaceAll(on.root, '~')).find(({ name }: Finding) => name === 'nccl');

const builds = (on: Machine): string[] =>
  on
    .calls()
    .filter((call) => /^cmake -(S|-build)/.test(call))
    .map((call) => call.split(' ').slice(0, 2).join(' '));

test('the addon is built once, and again when a source or libtorch changed', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, copies(makeAddon(on)));
  await buildNative(options);
  expect(builds(on)).toEqual(['cmake -S', 'cmake --build']);
  await buildNative(options);
  expect(builds(on)).toHaveLength(2);
  on.write('native/kernels/linear.cc', '// more code');
  await buildNative(options);
  expect(builds(on).slice(2)).toEqual(['cmake --build']);
  const moved = join(on.root, 'cache/other');
  execFileSync('/bin/sh', ['-c', makeLibtorch(moved, '2.14.0')]);
  await buildNative({ ...options, libtorch: { ...options.libtorch, folder: moved } });
  expect(builds(on).slice(3)).toEqual(['cmake -S', 'cmake --build']);
});

test('an addon that was removed is built again', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, copies(makeAddon(on)));
  await buildNative(options);
  rmSync(join(options.build, 'tinyllava.node'));
  expect(isBuilt(options.root, options.build, options.libtorch)).toBe(false);
  await buildNative(options);
  expect(isBuilt(options.root, options.build, options.libtorch)).toBe(true);
});

test('a build of make that was killed starts over, for its object files may be cut short', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, 'kill -9 $$', { builder: 'make' });
  await failure(on, () => buildNative(options));
  expect(existsSync(join(options.build, 'CMakeFiles/made.o'))).toBe(true);
  fakeTools(on, copies(makeAddon(on)), { builder: 'make' });
  await buildNative(options);
  expect(builds(on)).toEqual(['cmake -S', 'cmake --build', 'cmake -S', 'cmake --build']);
});

test('a build of Ninja that was killed goes on, for Ninja knows what it finished', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, 'kill -9 $$');
  await failure(on, () => buildNative(options));
  fakeTools(on, copies(makeAddon(on)));
  await buildNative(options);
  expect(builds(on)).toEqual(['cmake -S', 'cmake --build', 'cmake --build']);
});

test('sources that do not compile give one message, and what was compiled is kept', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, 'echo "addon.cc:1: error: expected" ; exit 1');
  expect(await failure(on, () => buildNative(options))).toMatchInlineSnapshot(`
    "the addon did not build
      fix: see the compiler's messages above"
  `);
  fakeTools(on, copies(makeAddon(on)));
  await buildNative(options);
  expect(builds(on)).toEqual(['cmake -S', 'cmake --build', 'cmake --build']);
});

test.each([
  ['fatal error: error writing to /tmp/x.s: No space left on device', 'the disk became full while building the addon'],
  [
    '/usr/bin/ld: /cache/torch/lib/libc10.so: file not recognized: file format not recognized',
    'a library of PyTorch is damaged: /cache/torch/lib/libc10.so',
  ],
  ['g++: fatal error: Killed signal terminated program cc1plus', 'the compiler was killed, most likely because memory ran out'],
])('"%s" becomes "%s"', async (output, message) => {
  const on = machine();
  fakeTools(on, `echo "${output}"; exit 1`);
  expect((await failure(on, () => buildNative(clone(on)))).split('\n')[0]).toBe(message);
});

test('an addon that does not load is not taken for built', async () => {
  const on = machine();
  const options = clone(on);
  fakeTools(on, 'echo "no library" > "$folder/tinyllava.node"');
  expect(await failure(on, () => buildNative(options))).toMatchInlineSnapshot(`
    "the addon was built but does not load: ~/build/tinyllava.node: file too short
      fix: remove ~/cache, and \`npm run build\` installs it again"
  `);
  expect(isBuilt(options.root, options.build, options.libtorch)).toBe(false);
});

/** Tools whose CMake finds what NCCL needs; `build` is what building its module does. */
function toolsWithNccl(on: Machine, build: string): void {
  fakeTools(on, `if [ "$4" = tinyllava-nccl ]; then ${build}; else ${copies(makeAddon(on))}; fi`, {
    configure: 'printf tinyllava-nccl > "$4/optional.txt"',
  });
}

test("NCCL's module is built where CMake has found what it needs", async () => {
  const on = machine();
  const options = clone(on);
  toolsWithNccl(on, 'echo library > "$folder/tinyllava-nccl.so"');
  await buildNative(options);
  expect(builds(on)).toEqual(['cmake -S', 'cmake --build', 'cmake --build']);
  expect(existsSync(join(options.build, 'tinyllava-nccl.so'))).toBe(true);
  expect(on.said).toHaveLength(1);
  expect(nccl(on)).toEqual({ name: 'nccl', ok: true, found: 'built for several GPUs' });
});

test('an NCCL that does not compile is left out with one warning, which doctor repeats', async () => {
  const on = machine();
  const options = clone(on);
  on.write('build/tinyllava-nccl.so', 'of an earlier build');
  toolsWithNccl(on, 'echo "nccl.cc:1: error: expected"; exit 1');
  await buildNative(options);
  expect(on.said.slice(1)).toEqual([
    "NCCL is left out, for it does not compile against PyTorch 2.15.0: what several GPUs exchange goes through Gloo, slowly or not at all; the compiler's messages are in ~/build/nccl.log",
  ]);
  expect(existsSync(join(options.build, 'tinyllava-nccl.so'))).toBe(false);
  expect(readFileSync(join(options.build, 'nccl.log'), 'utf8')).toBe('nccl.cc:1: error: expected\n');
  // It is not tried again before something has changed.
  expect(isBuilt(options.root, options.build, options.libtorch)).toBe(true);
  expect(nccl(on)).toEqual({
    name: 'nccl',
    ok: false,
    found: 'did not compile, so what several GPUs exchange goes through Gloo, slowly or not at all',
    fix: 'see ~/build/nccl.log, then remove ~/build and run `npm run build:native`',
  });
});

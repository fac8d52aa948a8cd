import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildNative, isBuilt } from '../../scripts/setup/native.mjs';
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
  fakeTools(on, 'kill -9 $$', 'make');
  await failure(on, () => buildNative(options));
  expect(existsSync(join(options.build, 'CMakeFiles/made.o'))).toBe(true);
  fakeTools(on, copies(makeAddon(on)), 'make');
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

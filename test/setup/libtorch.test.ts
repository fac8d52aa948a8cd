import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import * as setupCache from '../../scripts/setup/cache.mjs';
import { easyVqaFolder as setupEasyVqaFolder } from '../../scripts/setup/easy-vqa.mjs';
import { installLibtorch, locateLibtorch, requirePlatform } from '../../scripts/setup/libtorch.mjs';
import { cacheFolder, easyVqaFolder } from '../../src/cli/cache.ts';
import { failure, fakePython, installsTorch, type Machine, machine, makeLibtorch } from './machine.ts';

const libtorchAt = (folder: string, version?: string): string => {
  execFileSync('/bin/sh', ['-c', makeLibtorch(folder, version)]);
  return folder;
};

const everySource = async (): Promise<Machine> => {
  const on = machine();
  fakePython(on, { torch: libtorchAt(join(on.root, 'python/torch'), '2.12.1'), install: installsTorch });
  await installLibtorch({ ...on, gpu: false });
  return on;
};

test('LIBTORCH comes first', async () => {
  const on = await everySource();
  const folder = libtorchAt(join(on.root, 'own'), '2.11.0');
  expect(locateLibtorch({ env: { ...on.env, LIBTORCH: folder } })).toEqual({ folder, version: '2.11.0', cuda: true, source: 'LIBTORCH' });
});

test('the torch that python3 imports comes second', async () => {
  const on = await everySource();
  expect(locateLibtorch(on)).toEqual({ folder: join(on.root, 'python/torch'), version: '2.12.1', cuda: true, source: 'python3' });
});

test('the cache comes last, and its install without the libraries of CUDA has no CUDA', async () => {
  const on = await everySource();
  fakePython(on, {});
  const folder = join(on.cache, 'libtorch/2.15.0-cpu/torch');
  expect(locateLibtorch({ ...on, gpu: false })).toEqual({ folder, version: '2.15.0', cuda: false, source: 'cache' });
});

test('an unsupported torch of python3 is passed over and named', () => {
  const on = machine();
  fakePython(on, { torch: libtorchAt(join(on.root, 'python/torch'), '2.10.0') });
  expect(locateLibtorch(on)).toBeUndefined();
  expect(on.said).toEqual(['not using the torch 2.10.0 of python3: 2.11 to 2.15 are supported']);
});

test('a machine with a GPU does not take the install for CPUs, and one without takes either', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  await installLibtorch({ ...on, gpu: false });
  expect(locateLibtorch({ ...on, gpu: true })).toBeUndefined();
  const other = machine();
  fakePython(other, { install: installsTorch });
  await installLibtorch({ ...other, gpu: true });
  expect(locateLibtorch({ ...other, gpu: false })).toMatchObject({ cuda: true });
});

test('an install whose library was cut short is not used', async () => {
  const on = machine();
  fakePython(on, { install: installsTorch });
  const { folder } = await installLibtorch({ ...on, gpu: false });
  writeFileSync(join(folder, 'lib/libtorch_cpu.so'), 'lib');
  expect(locateLibtorch({ ...on, gpu: false })).toBeUndefined();
});

test('LIBTORCH without a library says which', async () => {
  const on = machine();
  mkdirSync(join(on.root, 'own/lib'), { recursive: true });
  const message = await failure(on, () => locateLibtorch({ env: { ...on.env, LIBTORCH: join(on.root, 'own') } }));
  expect(message).toMatchInlineSnapshot(`
    "LIBTORCH=~/own has no lib/libtorch_cpu.so
      fix: set LIBTORCH to a folder with lib/ and include/ of PyTorch 2.11 to 2.15, or unset it to have one installed"
  `);
});

test('LIBTORCH of an unsupported version says which are supported', async () => {
  const on = machine();
  const folder = libtorchAt(join(on.root, 'own'), '2.16.0');
  expect(await failure(on, () => locateLibtorch({ env: { ...on.env, LIBTORCH: folder } }))).toMatchInlineSnapshot(`
    "LIBTORCH=~/own is PyTorch 2.16.0, and 2.11 to 2.15 are supported
      fix: set LIBTORCH to a folder with lib/ and include/ of PyTorch 2.11 to 2.15, or unset it to have one installed"
  `);
});

test('a machine on which PyTorch has no library is told so', async () => {
  const on = machine();
  const linux = { platform: 'linux', arch: 'x64', glibc: '2.36' };
  expect(() => requirePlatform(linux)).not.toThrow();
  expect(await failure(on, () => requirePlatform({ ...linux, platform: 'win32' }))).toMatchInlineSnapshot(`
    "win32 is not supported
      fix: use Linux on x86-64 (WSL 2 or a container will do)"
  `);
  expect(await failure(on, () => requirePlatform({ ...linux, arch: 'arm64' }))).toMatchInlineSnapshot(`
    "libtorch is installed on x86-64 only and this machine is arm64
      fix: set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/"
  `);
  expect(await failure(on, () => requirePlatform({ ...linux, glibc: undefined }))).toMatchInlineSnapshot(`
    "libtorch needs glibc and this Linux has another C library (Alpine has musl)
      fix: use a distribution with glibc 2.28 or later, such as Debian or Ubuntu"
  `);
  expect(await failure(on, () => requirePlatform({ ...linux, glibc: '2.17' }))).toMatchInlineSnapshot(`
    "libtorch needs glibc 2.28 and this machine has 2.17
      fix: use a later distribution"
  `);
});

test.each([
  { TINYLLAVA_CACHE: '/shared', XDG_CACHE_HOME: '/xdg', HOME: '/home/me' },
  { XDG_CACHE_HOME: '/xdg', HOME: '/home/me' },
  { HOME: '/home/me' },
  { TINYLLAVA_CACHE: '', XDG_CACHE_HOME: '', HOME: '/home/me' },
  {},
])('set-up and the command line agree on the folders of the cache with %o', (env) => {
  expect(setupCache.cacheFolder(env)).toBe(cacheFolder(env));
  expect(setupEasyVqaFolder(env)).toBe(easyVqaFolder(env));
});

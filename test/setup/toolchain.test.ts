import { expect, test } from 'vitest';
import { requireTools } from '../../scripts/setup/native.mjs';
import { findBuilder, findCompiler } from '../../scripts/setup/toolchain.mjs';
import { failure, fakeTools, machine } from './machine.ts';

test('everything that is missing is named at once, each with its fix', async () => {
  const on = machine();
  expect(await failure(on, () => requireTools(on.env))).toMatchInlineSnapshot(`
    "3 things are missing
    - no C++ compiler found: neither g++ nor clang++ is on PATH
      fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one
    - no CMake found: cmake is not on PATH
      fix: install CMake 3.18 or later (Debian, Ubuntu: sudo apt install cmake; Fedora: sudo dnf install cmake; anywhere: python3 -m pip install cmake)
    - neither ninja nor make is on PATH
      fix: install one (Debian, Ubuntu: sudo apt install ninja-build, or make)"
  `);
});

test('tools that are too old are named with their versions', async () => {
  const on = machine();
  on.command('g++', 'echo "g++ (Ubuntu 9.4.0-1ubuntu1~20.04.2) 9.4.0"');
  on.command('cmake', 'echo "cmake version 3.10.2"');
  on.command('make', 'exit 0');
  expect(await failure(on, () => requireTools(on.env))).toMatchInlineSnapshot(`
    "2 things are missing
    - the C++ compiler is too old: ~/bin/g++ is gcc 9.4.0
      fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one
    - CMake 3.10.2 is too old
      fix: install CMake 3.18 or later (Debian, Ubuntu: sudo apt install cmake; Fedora: sudo dnf install cmake; anywhere: python3 -m pip install cmake)"
  `);
});

test('a compiler that cannot run counts as missing', async () => {
  const on = machine();
  fakeTools(on, '');
  on.command('g++', 'echo "g++: cannot execute cc1plus" >&2; exit 1');
  expect(await failure(on, () => requireTools(on.env))).toMatchInlineSnapshot(`
    "no C++ compiler found: neither g++ nor clang++ is on PATH
      fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one"
  `);
});

test.each([
  ['g++', 'g++ (GCC) 11.4.1 20230605 (Red Hat 11.4.1-2)', { name: 'gcc', version: '11.4.1' }],
  ['c++', 'c++ (Debian 12.2.0-14+deb12u1) 12.2.0', { name: 'gcc', version: '12.2.0' }],
  ['clang++', 'Ubuntu clang version 15.0.7', { name: 'clang', version: '15.0.7' }],
  ['g++-13', 'g++-13 (SUSE Linux) 13.3.1 20240611 [revision abc]', { name: 'gcc', version: '13.3.1' }],
])('%s that calls itself "%s" is recognised', (name, line, expected) => {
  const on = machine();
  on.command(name, `echo "${line}"`);
  expect(findCompiler(on.env)).toMatchObject(expected);
});

test('a newer compiler beside an old one is taken', () => {
  const on = machine();
  on.command('g++', 'echo "g++ (Ubuntu 9.4.0-1ubuntu1~20.04.2) 9.4.0"');
  on.command('clang++', 'echo "Ubuntu clang version 16.0.6"');
  expect(findCompiler(on.env)).toMatchObject({ name: 'clang', version: '16.0.6' });
});

test('CXX decides, also when it is wrong', async () => {
  const on = machine();
  fakeTools(on, '');
  on.command('mine', 'echo "clang version 17.0.1"');
  expect(findCompiler({ ...on.env, CXX: 'mine' })).toMatchObject({ name: 'clang', version: '17.0.1' });
  expect(await failure(on, () => requireTools({ ...on.env, CXX: 'theirs' }))).toMatchInlineSnapshot(`
    "no C++ compiler found: CXX=theirs does not run
      fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one"
  `);
});

test('make is used where there is no Ninja', () => {
  const on = machine();
  on.command('make', 'exit 0');
  expect(findBuilder(on.env)).toMatchObject({ generator: 'Unix Makefiles' });
});

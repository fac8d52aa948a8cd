import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { findCompiler } from '../../scripts/setup/toolchain.mjs';

/** A machine of one test: a folder that holds its home, its cache and the only commands on its PATH. */
export interface Machine {
  readonly root: string;
  readonly cache: string;
  readonly env: Record<string, string>;
  /** What set-up reported. */
  readonly said: string[];
  readonly say: (line: string) => void;
  /** Puts a shell script on PATH; each of its calls is written down. */
  command(name: string, script: string): void;
  /** The calls so far, as `name arguments`. */
  calls(): string[];
  write(path: string, text: string): void;
}

export function machine(): Machine {
  const root = mkdtempSync(join(tmpdir(), 'tinyllava-setup-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  // What commands print belongs to the user of set-up, not to the output of the tests.
  const printed = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(() => printed.mockRestore());
  const bin = join(root, 'bin');
  mkdirSync(bin);
  const cache = join(root, 'cache');
  const calls = join(root, 'calls');
  const said: string[] = [];
  return {
    root,
    cache,
    env: { PATH: bin, HOME: root, TINYLLAVA_CACHE: cache },
    said,
    say: (line) => said.push(line.replaceAll(root, '~')),
    command: (name, script) => {
      writeFileSync(join(bin, name), `#!/bin/sh\nPATH=/usr/bin:/bin\necho "${name} $*" >> ${calls}\n${script}\n`);
      chmodSync(join(bin, name), 0o755);
    },
    calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trimEnd().replaceAll(root, '~').split('\n') : []),
    write: (path, text) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    },
  };
}

/** The shell lines that make what counts as a libtorch folder. */
export function makeLibtorch(folder: string, version = '2.15.0'): string {
  const [major, minor, patch] = version.split('.');
  return `mkdir -p "${folder}/lib" "${folder}/include/ATen" "${folder}/include/torch/headeronly"
echo library > "${folder}/lib/libtorch_cpu.so"
echo library > "${folder}/lib/libc10.so"
echo library > "${folder}/lib/libtorch_cuda.so"
echo header > "${folder}/include/ATen/ATen.h"
echo "#define TORCH_VERSION_MAJOR ${major}
#define TORCH_VERSION_MINOR ${minor}
#define TORCH_VERSION_PATCH ${patch}" > "${folder}/include/torch/headeronly/version.h"`;
}

/** A python3 that imports the torch in `torch` (none when empty), and whose pip runs `install` with the target folder in $target. */
export function fakePython(on: Machine, { torch = '', install = 'exit 1' }: { torch?: string; install?: string }): void {
  on.command(
    'python3',
    `if [ "$1" = -c ]; then echo "${torch}"; exit 0; fi
if [ "$3" = --version ]; then echo "pip 23.2 from somewhere (python 3.11)"; exit 0; fi
while [ $# -gt 0 ]; do [ "$1" = --target ] && target="$2"; shift; done
${install}`,
  );
}

/** A pip that installs torch. */
export const installsTorch = `${makeLibtorch('$target/torch')}\nmkdir -p "$target/nvidia"`;

/** An addon that loads and does nothing, in the folder of a machine. */
export function makeAddon(on: Machine): string {
  const compiler = findCompiler(process.env);
  if (compiler.problem !== undefined) throw new Error(compiler.problem);
  on.write('empty.c', 'void *napi_register_module_v1(void *env, void *exports) { return exports; }');
  const addon = join(on.root, 'empty.node');
  execFileSync(compiler.path, ['-x', 'c', '-shared', '-fPIC', '-o', addon, join(on.root, 'empty.c')]);
  return addon;
}

/** What tools a machine has: what CMake drives, and what it does, with the build folder as $4, when it looks at a project. */
interface Tools {
  readonly builder?: 'ninja' | 'make';
  readonly configure?: string;
}

/** The compiler, CMake and what it drives; `build` is what the build does in the build folder $folder. */
export function fakeTools(on: Machine, build: string, { builder = 'ninja', configure = '' }: Tools = {}): void {
  on.command('g++', 'echo "g++ (Debian 12.2.0-14) 12.2.0"');
  on.command(builder, 'echo 1.11.1');
  on.command(
    'cmake',
    `if [ "$1" = --version ]; then echo "cmake version 3.25.1"; exit 0; fi
if [ "$1" = -S ]; then
  mkdir -p "$4/CMakeFiles"; echo cache > "$4/CMakeCache.txt"; echo object > "$4/CMakeFiles/made.o"
  ${configure}
  exit 0
fi
folder="$2"
${build}`,
  );
}

/** The message and the fix of what an action throws, as a user reads them. */
export async function failure(on: Machine, action: () => unknown): Promise<string> {
  const { describeFailure } = await import('../../scripts/setup/failure.mjs');
  try {
    await action();
  } catch (error) {
    return describeFailure(error).replaceAll(on.root, '~');
  }
  throw new Error('nothing was thrown');
}

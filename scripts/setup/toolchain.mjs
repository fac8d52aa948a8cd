import { capture, findCommand } from './commands.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {{ path: string, name: string, version: string, generator?: string, problem?: undefined }} FoundTool */
/** @typedef {FoundTool | { problem: string, fix: string }} Tool */

const minimum = { gcc: 11, clang: 15 };
const compilerFix =
  'install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one';

/** @param {string} path @param {Env} env */
function compilerVersion(path, env) {
  const { status, stdout } = capture(path, ['--version'], env);
  const line = stdout.split('\n')[0] ?? '';
  const version = line.match(/(\d+)\.\d+(?:\.\d+)?(?!.*\d+\.\d+\.\d+)/)?.[0];
  if (status !== 0 || version === undefined) return undefined;
  const name = /clang/i.test(line) ? 'clang' : 'gcc';
  return { path, name, version, good: Number(version.split('.')[0]) >= minimum[name] };
}

/** The C++ compiler: CXX, or the first of g++, c++ and clang++ on PATH that is new enough. @param {Env} env @returns {Tool} */
export function findCompiler(env) {
  const names = env['CXX'] ? [env['CXX']] : ['g++', 'c++', 'clang++', ...[16, 15, 14, 13, 12, 11].map((major) => `g++-${major}`)];
  const paths = names.map((name) => findCommand(name, env)).filter((path) => path !== undefined);
  const found = paths.map((path) => compilerVersion(path, env)).filter((compiler) => compiler !== undefined);
  const chosen = found.find((compiler) => compiler.good);
  if (chosen) return { path: chosen.path, name: chosen.name, version: chosen.version };
  const [old] = found;
  if (old) return { problem: `the C++ compiler is too old: ${old.path} is ${old.name} ${old.version}`, fix: compilerFix };
  return {
    problem: env['CXX']
      ? `no C++ compiler found: CXX=${env['CXX']} does not run`
      : 'no C++ compiler found: neither g++ nor clang++ is on PATH',
    fix: compilerFix,
  };
}

/** @param {Env} env @returns {Tool} */
export function findCmake(env) {
  const fix =
    'install CMake 3.18 or later (Debian, Ubuntu: sudo apt install cmake; Fedora: sudo dnf install cmake; anywhere: python3 -m pip install cmake)';
  const path = findCommand('cmake', env);
  if (path === undefined) return { problem: 'no CMake found: cmake is not on PATH', fix };
  const { status, stdout } = capture(path, ['--version'], env);
  const version = stdout.match(/cmake version (\d+\.\d+\.\d+)/)?.[1];
  if (status !== 0 || version === undefined) return { problem: `no CMake found: ${path} does not run`, fix };
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major * 100 + minor < 318) return { problem: `CMake ${version} is too old`, fix };
  return { path, name: 'cmake', version };
}

/** Ninja or make, whichever CMake should drive. @param {Env} env @returns {Tool} */
export function findBuilder(env) {
  const ninja = findCommand('ninja', env);
  if (ninja) return { path: ninja, name: 'ninja', version: capture(ninja, ['--version'], env).stdout.trim(), generator: 'Ninja' };
  const make = findCommand('make', env);
  if (make)
    return {
      path: make,
      name: 'make',
      version: capture(make, ['--version'], env).stdout.match(/\d[\d.]*/)?.[0] ?? '',
      generator: 'Unix Makefiles',
    };
  return { problem: 'neither ninja nor make is on PATH', fix: 'install one (Debian, Ubuntu: sudo apt install ninja-build, or make)' };
}

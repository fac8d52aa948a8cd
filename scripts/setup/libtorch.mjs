import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { capture, findCommand } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { readJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {'LIBTORCH' | 'python3' | 'cache'} Source */
/** @typedef {{ folder: string, version: string, cuda: boolean, source: Source }} Libtorch */

/** The version that set-up installs, the CUDA line its CPU library is linked against, and the versions that are accepted. */
export const torchVersion = '2.15.0';
export const cudaVersion = '13.2';
export const supportedTorch = '2.11 to 2.15';

/** @param {string} version */
export function isSupported(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major === 2 && minor >= 11 && minor <= 15;
}

/** The folder that clones share: libtorch and data. @param {Env} env */
export function cacheFolder(env) {
  return resolve(env['TINYLLAVA_CACHE'] || join(env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache'), 'tinyllava'));
}

/** Whether the machine has an NVIDIA GPU whose driver is loaded. */
export function hasGpu() {
  return existsSync('/dev/nvidiactl') || existsSync('/proc/driver/nvidia/version') || existsSync('/dev/dxg');
}

/** @param {string} folder @returns {string | undefined} */
function versionOf(folder) {
  for (const header of ['include/torch/headeronly/version.h', 'include/torch/csrc/api/include/torch/version.h']) {
    const path = join(folder, header);
    if (!existsSync(path)) continue;
    const parts = ['MAJOR', 'MINOR', 'PATCH'].map((part) => readFileSync(path, 'utf8').match(`define TORCH_VERSION_${part} (\\d+)`)?.[1]);
    if (!parts.includes(undefined)) return parts.join('.');
  }
  return undefined;
}

/** What a libtorch folder holds, or a string that says what it lacks. @param {string} folder @returns {{ version: string, cuda: boolean } | string} */
export function inspectLibtorch(folder) {
  const lacking = ['lib/libtorch_cpu.so', 'lib/libc10.so', 'include/ATen/ATen.h'].find((path) => !existsSync(join(folder, path)));
  if (lacking !== undefined) return `has no ${lacking}`;
  const version = versionOf(folder);
  if (version === undefined) return 'has no include/torch/headeronly/version.h';
  return { version, cuda: existsSync(join(folder, 'lib/libtorch_cuda.so')) };
}

/** @param {Env} env @returns {Libtorch | undefined} */
function fromVariable(env) {
  const given = env['LIBTORCH'];
  if (!given) return undefined;
  const folder = resolve(given);
  const found = inspectLibtorch(folder);
  const fix = `set LIBTORCH to a folder with lib/ and include/ of PyTorch ${supportedTorch}, or unset it to have one installed`;
  if (typeof found === 'string') throw new SetupFailure(`LIBTORCH=${folder} ${found}`, fix);
  if (!isSupported(found.version)) throw new SetupFailure(`LIBTORCH=${folder} is PyTorch ${found.version}; supported is ${supportedTorch}`, fix);
  return { folder, ...found, source: 'LIBTORCH' };
}

// Importing torch takes seconds; finding its folder does not.
const findTorch = "import importlib.util as u\ns = u.find_spec('torch')\nprint(next(iter(s.submodule_search_locations or ()), '') if s else '')";

/** @param {Env} env @returns {{ folder: string, version: string, cuda: boolean } | undefined} */
function fromPython(env) {
  const python = findCommand('python3', env);
  if (python === undefined) return undefined;
  const { status, stdout } = capture(python, ['-c', findTorch], env);
  const folder = stdout.trim();
  if (status !== 0 || folder === '') return undefined;
  const found = inspectLibtorch(folder);
  return typeof found === 'string' ? undefined : { folder, ...found };
}

/** The folder in the cache where set-up installs. The one with CUDA's libraries is several times as large. @param {Env} env @param {boolean} gpu */
export function installFolder(env, gpu) {
  return join(cacheFolder(env), 'libtorch', `${torchVersion}-${gpu ? 'cuda' : 'cpu'}`);
}

/** Whether an install is whole: its last act was to write down the sizes of its libraries. @param {string} folder */
export function isComplete(folder) {
  const sizes = readJson(join(folder, 'complete.json'));
  if (typeof sizes !== 'object' || sizes === null) return false;
  return Object.entries(sizes).every(([path, size]) => statSync(join(folder, path), { throwIfNoEntry: false })?.size === size);
}

/**
 * Finds libtorch without installing anything: LIBTORCH, then the torch that python3 would import, then the cache.
 * @param {{ env: Env, gpu?: boolean, say?: (line: string) => void }} options
 * @returns {Libtorch | undefined}
 */
export function locateLibtorch({ env, gpu = hasGpu(), say = () => {} }) {
  const given = fromVariable(env);
  if (given) return given;
  const python = fromPython(env);
  if (python && isSupported(python.version)) return { ...python, source: 'python3' };
  if (python) say(`the torch of python3 is ${python.version} and supported is ${supportedTorch}; using another`);
  // An install with CUDA also serves a machine without a GPU, so a shared cache needs only one of them.
  for (const folder of gpu ? [installFolder(env, true)] : [installFolder(env, false), installFolder(env, true)]) {
    if (!isComplete(folder)) continue;
    const found = inspectLibtorch(join(folder, 'torch'));
    if (typeof found !== 'string') return { folder: join(folder, 'torch'), ...found, cuda: found.cuda && folder === installFolder(env, true), source: 'cache' };
  }
  return undefined;
}

/** The folder that the CUDA and CPU libraries of an install lie beside, for messages. @param {string} folder */
export function installRoot(folder) {
  return dirname(folder);
}

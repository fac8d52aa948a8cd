import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cacheFolder, cacheOnce, isComplete } from './cache.mjs';
import { capture, findCommand } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { pipInstall, requirePip } from './pip.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {{ folder: string, version: string, cuda: boolean, source: 'LIBTORCH' | 'python3' | 'cache' }} Libtorch */

const supportedTorch = '2.11 to 2.15';
// What is installed where none is found, and the CUDA whose runtime its CPU library is linked against.
const torchVersion = '2.15.0';
const cudaVersion = '13.2';
// Measured: the wheels and what they unpack to, at the same time.
const neededBytes = { cpu: 2.0e9, cuda: 9e9 };
const otherwise = `, or set LIBTORCH to the folder of a PyTorch ${supportedTorch} that has lib/ and include/`;
const parts = ['lib/libtorch_cpu.so', 'lib/libc10.so', 'include/ATen/ATen.h'];

/** @param {string} version */
function isSupported(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major === 2 && minor >= 11 && minor <= 15;
}

/** Whether the machine has an NVIDIA GPU whose driver is loaded. */
export function hasGpu() {
  return ['/dev/nvidiactl', '/proc/driver/nvidia/version', '/usr/lib/wsl/lib/libnvidia-ml.so.1'].some((path) => existsSync(path));
}

/** @param {string} folder @returns {string | undefined} */
function versionOf(folder) {
  const header = ['include/torch/headeronly/version.h', 'include/torch/csrc/api/include/torch/version.h']
    .map((path) => join(folder, path))
    .find((path) => existsSync(path));
  if (header === undefined) return undefined;
  const text = readFileSync(header, 'utf8');
  const numbers = ['MAJOR', 'MINOR', 'PATCH'].map((part) => text.match(`define TORCH_VERSION_${part} (\\d+)`)?.[1]);
  return numbers.includes(undefined) ? undefined : numbers.join('.');
}

/** What a libtorch folder holds, or a string that says what it lacks. @param {string} folder @returns {{ version: string, cuda: boolean } | string} */
export function inspectLibtorch(folder) {
  const lacking = parts.find((path) => !existsSync(join(folder, path)));
  if (lacking !== undefined) return `has no ${lacking}`;
  const version = versionOf(folder);
  return version === undefined ? 'has no version.h' : { version, cuda: existsSync(join(folder, 'lib/libtorch_cuda.so')) };
}

/** @param {Env} env @returns {Libtorch | undefined} */
function fromVariable(env) {
  if (!env['LIBTORCH']) return undefined;
  const folder = resolve(env['LIBTORCH']);
  const found = inspectLibtorch(folder);
  const fix = `set LIBTORCH to a folder with lib/ and include/ of PyTorch ${supportedTorch}, or unset it to have one installed`;
  if (typeof found === 'string') throw new SetupFailure(`LIBTORCH=${folder} ${found}`, fix);
  if (!isSupported(found.version)) {
    throw new SetupFailure(`LIBTORCH=${folder} is PyTorch ${found.version}, and ${supportedTorch} are supported`, fix);
  }
  return { folder, ...found, source: 'LIBTORCH' };
}

// Importing torch takes seconds; finding its folder does not.
const findTorch = `import importlib.util as u
s = u.find_spec('torch')
print(next(iter(s.submodule_search_locations or ()), '') if s else '')`;

/** @param {Env} env @param {(line: string) => void} say @returns {Libtorch | undefined} */
function fromPython(env, say) {
  const python = findCommand('python3', env);
  if (python === undefined) return undefined;
  const { status, stdout } = capture(python, ['-c', findTorch], env);
  const folder = stdout.trim();
  if (status !== 0 || folder === '') return undefined;
  const found = inspectLibtorch(folder);
  if (typeof found === 'string') return undefined;
  if (isSupported(found.version)) return { folder, ...found, source: 'python3' };
  say(`not using the torch ${found.version} of python3: ${supportedTorch} are supported`);
  return undefined;
}

/** @param {Env} env @param {boolean} gpu */
function place(env, gpu) {
  return join(cacheFolder(env), 'libtorch', `${torchVersion}-${gpu ? 'cuda' : 'cpu'}`);
}

/** @param {Env} env @param {boolean} gpu @returns {Libtorch | undefined} */
function fromCache(env, gpu) {
  // An install with CUDA also serves a machine without a GPU, so that a shared cache needs only one.
  for (const cuda of gpu ? [true] : [false, true]) {
    if (!isComplete(place(env, cuda))) continue;
    const folder = join(place(env, cuda), 'torch');
    const found = inspectLibtorch(folder);
    if (typeof found !== 'string') return { folder, version: found.version, cuda: cuda && found.cuda, source: 'cache' };
  }
  return undefined;
}

/**
 * Finds libtorch without installing anything: LIBTORCH, then the torch that python3 would import, then the cache.
 * @param {{ env: Env, gpu?: boolean, say?: (line: string) => void }} options
 */
export function locateLibtorch({ env, gpu = hasGpu(), say = () => {} }) {
  return fromVariable(env) ?? fromPython(env, say) ?? fromCache(env, gpu);
}

/** Throws where PyTorch publishes no library that fits the machine. @param {{ platform: string, arch: string, glibc: string | undefined }} machine */
export function requirePlatform({ platform, arch, glibc }) {
  if (platform !== 'linux') throw new SetupFailure(`${platform} is not supported`, 'use Linux on x86-64 (WSL 2 or a container will do)');
  if (arch !== 'x64')
    throw new SetupFailure(`libtorch is installed on x86-64 only and this machine is ${arch}`, otherwise.slice(', or '.length));
  if (glibc === undefined) {
    throw new SetupFailure(
      'libtorch needs glibc and this Linux has another C library (Alpine has musl)',
      'use a distribution with glibc 2.28 or later, such as Debian or Ubuntu',
    );
  }
  const [major = 0, minor = 0] = glibc.split('.').map(Number);
  if (major === 2 && minor < 28)
    throw new SetupFailure(`libtorch needs glibc 2.28 and this machine has ${glibc}`, 'use a later distribution');
}

/** Throws unless libtorch could be installed here: the platform, Python and pip. @param {Env} env */
export function requireInstaller(env) {
  // Without this the report looks up names of network peers, which can take long.
  Object.assign(process.report ?? {}, { excludeNetwork: true });
  /** @type {any} */
  const report = process.report?.getReport();
  requirePlatform({ platform: process.platform, arch: process.arch, glibc: report?.header?.glibcVersionRuntime });
  requirePip(env, otherwise);
}

/** Installs libtorch into the cache and returns it. @param {{ env: Env, gpu?: boolean, say?: (line: string) => void }} options */
export async function installLibtorch({ env, gpu = hasGpu(), say = () => {} }) {
  const what = `PyTorch ${torchVersion}${gpu ? ' with CUDA' : ''}`;
  const torch = `torch==${torchVersion}`;
  // The CPU library is linked against two small libraries of CUDA; all else that the wheel asks for is Python's or the GPU's. NCCL's module needs
  // headers that it does not ask for.
  const packages = gpu
    ? [torch, `nvidia-cuda-crt==${cudaVersion}.*`]
    : [torch, `nvidia-cuda-runtime==${cudaVersion}.*`, `nvidia-cuda-cupti==${cudaVersion}.*`];
  await cacheOnce({
    place: place(env, gpu),
    what,
    bytes: gpu ? neededBytes.cuda : neededBytes.cpu,
    parts: [...parts.map((path) => `torch/${path}`), 'torch/lib', 'nvidia'],
    make: (folder) => pipInstall({ folder, packages, dependencies: gpu, what, env, otherwise }),
    say,
  });
  const installed = fromCache(env, gpu);
  if (installed === undefined) throw new SetupFailure(`${place(env, gpu)} is not usable`, `remove it and run this again${otherwise}`);
  return installed;
}

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { capture, findCommand, stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { cudaVersion, hasGpu, inspectLibtorch, installFolder, isComplete, locateLibtorch, supportedTorch, torchVersion } from './libtorch.mjs';
import { withLock } from './lock.mjs';
import { writeJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

// Measured: the wheels and what they unpack to, at the same time.
const neededBytes = { cpu: 2.0e9, cuda: 9e9 };
const libraries = ['torch/lib/libtorch_cpu.so', 'torch/lib/libc10.so', 'torch/lib/libtorch_cuda.so', 'torch/include/ATen/ATen.h'];
const useOther = `set LIBTORCH to the folder of a PyTorch ${supportedTorch} that has lib/ and include/`;

/** @param {number} bytes */
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;

/** Throws when a folder's disk has less than `bytes` left. @param {string} folder @param {number} bytes @param {string} what */
export function requireSpace(folder, bytes, what) {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= bytes) return;
  throw new SetupFailure(
    `${what} needs ${gigabytes(bytes)} of disk and ${folder} has ${gigabytes(bavail * bsize)} left`,
    'free some space, or set TINYLLAVA_CACHE to a folder on another disk, and run this again',
  );
}

/** python3 with pip, or a SetupFailure that says which of them is missing. @param {Env} env */
export function requirePip(env) {
  const python = findCommand('python3', env);
  if (python === undefined) throw new SetupFailure('no Python found: python3 is not on PATH', `install it (Debian, Ubuntu: sudo apt install python3 python3-pip), or ${useOther}`);
  const { status, stdout } = capture(python, ['-m', 'pip', '--version'], env);
  const version = Number(stdout.match(/^pip (\d+)/)?.[1] ?? 0);
  if (status !== 0 || version === 0) throw new SetupFailure(`no pip found: ${python} -m pip does not run`, `install it (Debian, Ubuntu: sudo apt install python3-pip; else ${python} -m ensurepip), or ${useOther}`);
  if (version < 20) throw new SetupFailure(`pip ${version} is too old to install PyTorch; 20 or later is needed`, `upgrade it (${python} -m pip install --upgrade pip), or ${useOther}`);
  return python;
}

/** Throws where PyTorch publishes no library that this project can use. @param {{ platform: string, arch: string, glibc: string | undefined }} machine */
export function requireInstallable({ platform, arch, glibc }) {
  const name = `${platform}-${arch}`;
  if (name !== 'linux-x64') throw new SetupFailure(`libtorch can be installed for linux-x64 and this machine is ${name}`, useOther);
  if (glibc === undefined) throw new SetupFailure('libtorch needs glibc and this Linux has another C library (Alpine has musl)', 'use a distribution with glibc 2.28 or later, such as Debian or Ubuntu');
  const [major = 0, minor = 0] = glibc.split('.').map(Number);
  if (major * 1000 + minor < 2028) throw new SetupFailure(`libtorch needs glibc 2.28 and this machine has ${glibc}`, 'use a later release of the distribution');
}

/** What a failed pip said, as a SetupFailure. @param {string} output @param {string} what */
export function pipFailure(output, what) {
  if (/No space left on device|Errno 28|Disk quota exceeded|Errno 122/.test(output)) {
    return new SetupFailure(`the disk became full while installing ${what}`, 'free some space (also where pip keeps its cache), or set TINYLLAVA_CACHE to a folder on another disk, and run this again');
  }
  if (/NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|ReadTimeout|Read timed out|Connection (?:refused|reset|aborted|broken)|ProxyError|SSLError|CERTIFICATE_VERIFY|unreachable|HTTPError|IncompleteRead/.test(output)) {
    return new SetupFailure(`no package index could be reached to install ${what}`, `check the network and pip's index and proxy settings (python3 -m pip config list) and run this again, or ${useOther}`);
  }
  if (/No matching distribution|Could not find a version/.test(output)) {
    return new SetupFailure(`the package index does not have ${what} for this machine`, `check which index pip uses (python3 -m pip config list), or ${useOther}`);
  }
  const last = output.trim().split('\n').at(-1) ?? '';
  return new SetupFailure(`pip could not install ${what}: ${last}`, `see pip's messages above; run this again, or ${useOther}`);
}

/** @param {string} python @param {boolean} gpu @param {string} target */
function pipArguments(python, gpu, target) {
  // Only libraries and headers are used, so the wheel of any CPython will do, whatever python3 is.
  const wheel = ['--only-binary=:all:', '--implementation', 'cp', '--python-version', '3.12', '--no-user', '--no-compile', '--no-warn-conflicts'];
  const packages = gpu ? [`torch==${torchVersion}`] : ['--no-deps', `torch==${torchVersion}`, `nvidia-cuda-runtime==${cudaVersion}.*`, `nvidia-cuda-cupti==${cudaVersion}.*`];
  return ['-m', 'pip', 'install', '--disable-pip-version-check', '--root-user-action=ignore', '--retries', '3', '--target', target, ...wheel, ...packages];
}

/**
 * Installs libtorch into the cache and returns it. The install is made in a folder beside its place and renamed when it is
 * whole, so what a killed one leaves is never used; one process at a time installs.
 * @param {{ env: Env, gpu?: boolean, say?: (line: string) => void }} options
 */
export async function installLibtorch({ env, gpu = hasGpu(), say = () => {} }) {
  const python = requirePip(env);
  /** @type {any} */
  const report = process.report?.getReport();
  requireInstallable({ platform: process.platform, arch: process.arch, glibc: report?.header?.glibcVersionRuntime });
  const place = installFolder(env, gpu);
  const parent = dirname(place);
  mkdirSync(parent, { recursive: true });
  const what = `PyTorch ${torchVersion}${gpu ? ' with CUDA' : ''}`;
  await withLock(`${place}.lock`, () => installInto({ env, gpu, say, python, place, what }), {
    waiting: () => say(`another process is installing ${what}; waiting for it`),
  });
  const installed = locateLibtorch({ env, gpu });
  if (installed === undefined) throw new SetupFailure(`${place} is not a usable install of ${what}`, `remove ${place} and run this again`);
  return installed;
}

/** @param {{ env: Env, gpu: boolean, say: (line: string) => void, python: string, place: string, what: string }} options */
async function installInto({ env, gpu, say, python, place, what }) {
  if (isComplete(place)) return;
  const parent = dirname(place);
  for (const name of readdirSync(parent)) {
    if (name.startsWith('partial-')) rmSync(join(parent, name), { recursive: true, force: true });
  }
  if (existsSync(place)) {
    say(`replacing the damaged install in ${place}`);
    rmSync(place, { recursive: true, force: true });
  }
  requireSpace(parent, gpu ? neededBytes.cuda : neededBytes.cpu, `installing ${what}`);
  say(`installing ${what} into ${place}`);
  const partial = join(parent, `partial-${process.pid}`);
  const temporary = join(partial, 'tmp');
  mkdirSync(temporary, { recursive: true });
  try {
    const target = join(partial, 'site');
    const settings = { ...env, TMPDIR: temporary, PIP_REQUIRE_VIRTUALENV: '0', PYTHONUNBUFFERED: '1' };
    const { status, output } = await stream(python, pipArguments(python, gpu, target), { env: settings });
    if (status !== 0) throw pipFailure(output, what);
    const found = inspectLibtorch(join(target, 'torch'));
    if (typeof found === 'string') throw new SetupFailure(`the package of ${what} ${found}`, useOther);
    const present = libraries.filter((path) => existsSync(join(target, path)));
    writeJson(join(target, 'complete.json'), Object.fromEntries(present.map((path) => [path, statSync(join(target, path)).size])));
    renameSync(target, place);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

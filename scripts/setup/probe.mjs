import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isComplete } from './cache.mjs';
import { capture } from './commands.mjs';
import { easyVqaFolder } from './easy-vqa.mjs';
import { SetupFailure } from './failure.mjs';
import { locateLibtorch, requireInstaller } from './libtorch.mjs';
import { isBuilt, mendLibtorch, ncclLog, withoutNccl } from './native.mjs';
import { packagesAreInstalled } from './npm.mjs';
import { readJson } from './stamp.mjs';
import { lastLibtorch, packageRoot } from './steps.mjs';
import { findBuilder, findCmake, findCompiler } from './toolchain.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {import('../../src/cli/doctor.ts').Finding} Finding */

/** @param {string} name @param {string} found @returns {Finding} */
const good = (name, found) => ({ name, ok: true, found });
/** @param {string} name @param {string} found @param {string} fix @returns {Finding} */
const bad = (name, found, fix) => ({ name, ok: false, found, fix });

/** @param {string} name @param {() => Finding} look @returns {Finding} */
function attempt(name, look) {
  try {
    return look();
  } catch (error) {
    if (error instanceof SetupFailure) return bad(name, error.message, error.fix);
    return bad(name, error instanceof Error ? error.message : String(error), 'run `npm run build`');
  }
}

/** @param {string} name @param {import('./toolchain.mjs').Tool} tool */
const fromTool = (name, tool) =>
  tool.problem === undefined ? good(name, `${tool.name} ${tool.version} (${tool.path})`) : bad(name, tool.problem, tool.fix);

/** @param {Env} env @returns {Finding} */
function python(env) {
  const { status, stdout } = capture('python3', ['-m', 'pip', '--version'], env);
  if (status === 0) return good('python', stdout.trim());
  const fix = 'install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip); it fetches PyTorch and the example data';
  return bad('python', 'python3 with pip is not on PATH', fix);
}

/** @param {string} root @param {Env} env @returns {Finding} */
function libtorch(root, env) {
  const found = lastLibtorch(join(root, 'build'), env) ?? locateLibtorch({ env });
  if (found) return good('libtorch', `PyTorch ${found.version}${found.cuda ? ' with CUDA' : ''} from ${found.source} (${found.folder})`);
  requireInstaller(env);
  return bad('libtorch', 'not installed yet', 'run `npm run build:native`, which installs it (1.2 GB)');
}

const ask = `const addon = require(process.argv[1]);
const ask = (name) => typeof addon[name] === 'function' ? addon[name]() : undefined;
console.log(JSON.stringify({ version: ask('version'), threads: ask('threads'), capability: ask('capability'), cuda: ask('loadCuda') }));`;

/** @param {string} root @param {Env} env @returns {Finding} */
function addon(root, env) {
  const build = join(root, 'build');
  const path = join(build, 'tinyllava.node');
  const fix = 'run `npm run build:native`';
  if (!existsSync(path)) return bad('addon', 'not built', fix);
  const last = lastLibtorch(build, env);
  const current = last !== undefined && isBuilt(root, build, last);
  // Loaded in a process of its own: a damaged library may end it.
  const { status, stdout, stderr } = capture(process.execPath, ['-e', ask, path], env);
  const reason = stderr.match(/Error: (.*)/)?.[1] ?? 'the process that loads it ends at once';
  if (status !== 0) return bad('addon', `built, does not load: ${reason}`, current ? mendLibtorch(last) : fix);
  const { version, threads, capability, cuda } = JSON.parse(stdout);
  const facts = `PyTorch ${version}, ${threads} threads, ${capability}, ${cuda ? 'CUDA' : 'no CUDA'}`;
  return current ? good('addon', `loads: ${facts}`) : bad('addon', `loads, older than its sources: ${facts}`, fix);
}

/** Nothing where the addon was built without a thought of NCCL. @param {string} root @returns {Finding[]} */
function nccl(root) {
  const build = join(root, 'build');
  const outcome = readJson(join(build, 'stamp.json'))?.nccl;
  if (outcome === 'built') return [good('nccl', 'built for several GPUs')];
  if (outcome !== 'failed') return [];
  return [
    bad('nccl', `did not compile, so ${withoutNccl}`, `see ${ncclLog(build)}, then remove ${build} and run \`npm run build:native\``),
  ];
}

/** What a machine has of what tinyllava needs to be set up, each with its fix where it is missing. @param {Env} env @param {string} root @returns {Finding[]} */
export function probe(env, root = packageRoot) {
  const clone = existsSync(join(root, 'package-lock.json'));
  const data = easyVqaFolder(env);
  return [
    attempt('npm packages', () =>
      !clone || packagesAreInstalled(root)
        ? good('npm packages', 'installed')
        : bad('npm packages', 'not what package-lock.json lists', 'run `npm ci`'),
    ),
    attempt('python', () => python(env)),
    attempt('compiler', () => fromTool('compiler', findCompiler(env))),
    attempt('cmake', () => fromTool('cmake', findCmake(env))),
    attempt('build tool', () => fromTool('build tool', findBuilder(env))),
    attempt('libtorch', () => libtorch(root, env)),
    attempt('addon', () => addon(root, env)),
    ...nccl(root),
    isComplete(data)
      ? good('easy-vqa', data)
      : bad('easy-vqa', 'not fetched', 'run `node scripts/fetch-data.mjs` (3 MB; `npm run quickstart` does it)'),
  ];
}

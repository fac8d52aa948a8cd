import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { capture, stream } from './commands.mjs';
import { requireAll, SetupFailure } from './failure.mjs';
import { withLock } from './lock.mjs';
import { fingerprint, readJson, writeJson } from './stamp.mjs';
import { findBuilder, findCmake, findCompiler } from './toolchain.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {import('./libtorch.mjs').Libtorch} Libtorch */

/** @param {string} root */
function headers(root) {
  return join(dirname(createRequire(join(root, 'package.json')).resolve('node-api-headers/package.json')), 'include');
}

/** What the addon in a build folder was made from. @param {string} root @param {Libtorch} libtorch */
function inputs(root, libtorch) {
  return fingerprint([
    join(root, 'native'),
    join(headers(root), 'node_api.h'),
    ...['libtorch_cpu.so', 'libc10.so'].map((name) => join(libtorch.folder, 'lib', name)),
  ]);
}

/** Whether the addon in `build` is what a build would make now. @param {string} root @param {string} build @param {Libtorch} libtorch */
export function isBuilt(root, build, libtorch) {
  const stamp = readJson(join(build, 'stamp.json'));
  return (
    stamp?.inputs === inputs(root, libtorch) &&
    stamp.addon === fingerprint([join(build, 'tinyllava.node')]) &&
    existsSync(join(build, 'libtorch.json'))
  );
}

/** @param {import('./toolchain.mjs').Tool} tool */
function required(tool) {
  if (tool.problem !== undefined) throw new SetupFailure(tool.problem, tool.fix);
  return tool;
}

/** The tools that build the addon. Throws one SetupFailure that names everything missing. @param {Env} env */
export function requireTools(env) {
  const compiler = findCompiler(env);
  const cmake = findCmake(env);
  const builder = findBuilder(env);
  requireAll([() => required(compiler), () => required(cmake), () => required(builder)]);
  return { compiler: required(compiler), cmake: required(cmake), builder: required(builder) };
}

/**
 * Configures and builds the addon into `build` when a source, a header or libtorch changed, and loads it once in a process
 * of its own.
 * @param {{ root: string, build: string, libtorch: Libtorch, env: Env, sanitize?: boolean, say?: (line: string) => void }} options
 */
export async function buildNative({ root, build, libtorch, env, sanitize = false, say = () => {} }) {
  if (isBuilt(root, build, libtorch)) return;
  const tools = requireTools(env);
  mkdirSync(build, { recursive: true });
  await withLock(join(build, 'lock'), () => buildInto({ root, build, libtorch, env, sanitize, say, tools }), {
    waiting: () => say('another process is building the addon; waiting for it'),
  });
}

/** @param {{ root: string, build: string, libtorch: Libtorch, env: Env, sanitize: boolean, say: (line: string) => void, tools: ReturnType<typeof requireTools> }} options */
async function buildInto({ root, build, libtorch, env, sanitize, say, tools }) {
  if (isBuilt(root, build, libtorch)) return;
  const before = inputs(root, libtorch);
  const running = join(build, 'running');
  // A build that was killed may leave object files that are cut off and look new; Ninja notices, make does not.
  if (existsSync(running) && tools.builder.name === 'make') clean(build);
  writeJson(running, {});
  rmSync(join(build, 'stamp.json'), { force: true });
  say(`building the addon with ${tools.compiler.name} ${tools.compiler.version} against PyTorch ${libtorch.version} in ${libtorch.folder}`);
  await configure({ root, build, libtorch, env, sanitize, tools });
  const jobs = env['CMAKE_BUILD_PARALLEL_LEVEL'] || String(availableParallelism());
  const made = await stream(tools.cmake.path, ['--build', build, '--parallel', jobs], { env });
  if (made.status > 0) rmSync(running);
  if (made.status !== 0) throw buildFailure(made.output, libtorch);
  const addon = join(build, 'tinyllava.node');
  const refusal = sanitize ? undefined : whyNotLoadable(addon, env);
  if (refusal !== undefined) {
    clean(build);
    throw new SetupFailure(`the addon was built but does not load: ${refusal}`, mendLibtorch(libtorch));
  }
  const nccl = await buildNccl({ build, libtorch, env, say, tools });
  writeJson(join(build, 'libtorch.json'), libtorch);
  writeJson(join(build, 'stamp.json'), { inputs: before, addon: fingerprint([addon]), nccl });
  rmSync(running);
}

/**
 * Builds NCCL's module where CMake has found what it needs. One that does not compile is left out with a warning, and its messages kept.
 * @param {{ build: string, libtorch: Libtorch, env: Env, say: (line: string) => void, tools: ReturnType<typeof requireTools> }} options
 * @returns {Promise<'built' | 'failed' | 'not wanted'>}
 */
async function buildNccl({ build, libtorch, env, say, tools }) {
  const [optional, module, log] = [join(build, 'optional.txt'), join(build, 'tinyllava-nccl.so'), ncclLog(build)];
  rmSync(log, { force: true });
  if (!existsSync(optional)) return 'not wanted';
  const { status, output } = await stream(tools.cmake.path, ['--build', build, '--target', readFileSync(optional, 'utf8')], {
    env,
    quiet: true,
  });
  if (status === 0) return 'built';
  // One of an earlier build would not fit this addon.
  rmSync(module, { force: true });
  writeFileSync(log, output);
  say(
    `NCCL is left out, for it does not compile against PyTorch ${libtorch.version}: ${withoutNccl}; the compiler's messages are in ${log}`,
  );
  return 'failed';
}

/** What the compiler said of NCCL's module where it did not compile. @param {string} build */
export const ncclLog = (build) => join(build, 'nccl.log');

/** What to expect where NCCL was left out. */
export const withoutNccl = 'what several GPUs exchange goes through Gloo, slowly or not at all';

/** @param {string} build */
function clean(build) {
  for (const name of ['CMakeCache.txt', 'CMakeFiles', 'build.ninja', 'Makefile', '.ninja_deps', '.ninja_log'])
    rmSync(join(build, name), { recursive: true, force: true });
}

/** @param {{ root: string, build: string, libtorch: Libtorch, env: Env, sanitize: boolean, tools: ReturnType<typeof requireTools> }} options */
async function configure({ root, build, libtorch, env, sanitize, tools }) {
  const settings = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_CXX_COMPILER: tools.compiler.path,
    CMAKE_EXPORT_COMPILE_COMMANDS: 'ON',
    LIBTORCH: libtorch.folder,
    NODE_API_INCLUDE: headers(root),
    SANITIZE: sanitize ? 'ON' : 'OFF',
  };
  const before = readJson(join(build, 'configured.json'));
  const now = { ...settings, root, generator: tools.builder.generator, compiler: tools.compiler.version };
  // CMake cannot change its compiler, generator or source folder in place.
  if (JSON.stringify(before) !== JSON.stringify(now)) clean(build);
  else if (existsSync(join(build, 'CMakeCache.txt'))) return;
  const definitions = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  const { status, output } = await stream(
    tools.cmake.path,
    ['-S', join(root, 'native'), '-B', build, '-G', tools.builder.generator ?? '', ...definitions],
    { env, quiet: true },
  );
  if (status !== 0) {
    process.stderr.write(output);
    clean(build);
    throw buildFailure(output, libtorch);
  }
  writeJson(join(build, 'configured.json'), now);
}

/** @param {string} output @param {Libtorch} libtorch */
function buildFailure(output, libtorch) {
  if (/No space left on device|Disk quota exceeded/.test(output)) {
    return new SetupFailure('the disk became full while building the addon', 'free some space and run this again');
  }
  if (/Killed signal terminated program|fatal error: Killed/.test(output)) {
    return new SetupFailure(
      'the compiler was killed, most likely because memory ran out',
      'close other programs, or set CMAKE_BUILD_PARALLEL_LEVEL=1, and run this again',
    );
  }
  const damaged = /(\S+\.so\S*): (?:file format not recognized|file not recognized|file too short|invalid ELF)/.exec(output)?.[1];
  if (damaged !== undefined) return new SetupFailure(`a library of PyTorch is damaged: ${damaged}`, mendLibtorch(libtorch));
  return new SetupFailure('the addon did not build', "see the compiler's messages above");
}

/** @param {string} addon @param {Env} env */
function whyNotLoadable(addon, env) {
  const { status, stderr } = capture(process.execPath, ['-e', 'require(process.argv[1])', addon], env);
  if (status === 0) return undefined;
  return stderr.match(/Error: (.*)/)?.[1] ?? (stderr.trim() || 'the process that loads it crashes');
}

/** What to do about a libtorch that does not link or load. @param {Libtorch} libtorch */
export function mendLibtorch({ folder, source }) {
  if (source === 'cache') return `remove ${dirname(folder)}, and \`npm run build\` installs it again`;
  return `mend the PyTorch in ${folder}, or set LIBTORCH to another, and run \`npm run build\``;
}

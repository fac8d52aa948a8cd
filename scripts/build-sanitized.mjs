// Builds the addon with the address and undefined-behaviour sanitizers into build/sanitized and runs the tests with it.
//   node scripts/build-sanitized.mjs [vitest arguments]
import { join } from 'node:path';
import { capture, stream } from './setup/commands.mjs';
import { describeFailure, SetupFailure } from './setup/failure.mjs';
import { buildNative, requireTools } from './setup/native.mjs';
import { lastLibtorch, packageRoot, setup } from './setup/steps.mjs';

const root = packageRoot;
const env = process.env;
const build = join(root, 'build/sanitized');
/** @param {string} line */
const say = (line) => console.error(`setup: ${line}`);

/** @param {string} library @returns {string} */
function runtime(library) {
  const { compiler } = requireTools(env);
  const path = capture(compiler.path, [`-print-file-name=${library}`], env).stdout.trim();
  if (path !== library && path !== '') return path;
  throw new SetupFailure(`${compiler.path} has no ${library}`, 'install the sanitizer runtimes of g++, or set CXX to a g++ that has them');
}

try {
  await setup({ env, say });
  const libtorch = lastLibtorch(join(root, 'build'), env);
  if (libtorch === undefined) throw new SetupFailure('no libtorch', 'run `npm run build:native`');
  await buildNative({ root, build, libtorch, env, say, sanitize: true });
  const settings = {
    ...env,
    TINYLLAVA_ADDON: join(build, 'tinyllava.node'),
    // Node is not built with the sanitizers, so their runtimes have to be there before it starts.
    LD_PRELOAD: ['libasan.so', 'libubsan.so'].map(runtime).join(' '),
    // V8 never frees what lives as long as the process.
    ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1:abort_on_error=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  };
  const { status } = await stream(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...process.argv.slice(2)], {
    env: settings,
    cwd: root,
  });
  process.exitCode = status === 0 ? 0 : 1;
} catch (error) {
  console.error(`tinyllava: ${describeFailure(error)}`);
  process.exitCode = 1;
}

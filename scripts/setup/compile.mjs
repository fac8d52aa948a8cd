import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { fingerprint, readJson, writeJson } from './stamp.mjs';

/** Compiles src/ to dist/ when something in it changed. @param {{ root: string, env: import('./commands.mjs').Env, say: (line: string) => void }} options */
export async function compileSources({ root, env, say }) {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  // A published package brings its dist/ and no compiler.
  if (!existsSync(compiler)) return;
  const stamp = join(root, 'dist/stamp.json');
  const inputs = fingerprint(
    ['src', 'tsconfig.json', 'tsconfig.build.json', 'node_modules/typescript/package.json'].map((path) => join(root, path)),
  );
  if (readJson(stamp)?.inputs === inputs) return;
  say('compiling src/');
  // Otherwise what a removed source once gave would stay.
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  const { status } = await stream(process.execPath, [compiler, '-p', 'tsconfig.build.json'], { env, cwd: root });
  if (status !== 0) throw new SetupFailure('the sources do not compile', "see the compiler's messages above");
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeJson(stamp, { inputs });
}

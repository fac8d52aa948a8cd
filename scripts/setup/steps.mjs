import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileSources } from './compile.mjs';
import { installLibtorch } from './install.mjs';
import { inspectLibtorch, locateLibtorch } from './libtorch.mjs';
import { buildNative, isBuilt, requireTools } from './native.mjs';
import { installPackages } from './npm.mjs';
import { readJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

/** The root of this package. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** The libtorch that the addon was last built against, while it is still there and LIBTORCH does not ask for another. @param {string} build @param {Env} env */
function lastLibtorch(build, env) {
  /** @type {import('./libtorch.mjs').Libtorch | undefined} */
  const last = readJson(join(build, 'libtorch.json'));
  const fits = env['LIBTORCH'] ? last?.folder === resolve(env['LIBTORCH']) : last?.source !== 'LIBTORCH';
  return last && fits && typeof inspectLibtorch(last.folder) !== 'string' ? last : undefined;
}

/**
 * Runs the steps that are needed. Tools are looked for before anything large is fetched.
 * @param {{ env: Env, root?: string, nativeOnly?: boolean, say?: (line: string) => void }} options
 */
export async function setup({ env, root = packageRoot, nativeOnly = false, say = () => {} }) {
  const build = join(root, 'build');
  const last = lastLibtorch(build, env);
  await installPackages({ root, env, say });
  if (last === undefined || !isBuilt(root, build, last)) {
    requireTools(env);
    const libtorch = last ?? locateLibtorch({ env, say }) ?? (await installLibtorch({ env, say }));
    await buildNative({ root, build, libtorch, env, say });
  }
  if (!nativeOnly) await compileSources({ root, env, say });
}

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isComplete } from './cache.mjs';
import { compileSources } from './compile.mjs';
import { requireAll } from './failure.mjs';
import { hasGpu, inspectLibtorch, installLibtorch, locateLibtorch, requireInstaller } from './libtorch.mjs';
import { buildNative, isBuilt, requireTools } from './native.mjs';
import { installPackages } from './npm.mjs';
import { readJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {import('./libtorch.mjs').Libtorch} Libtorch */

/** The root of this package. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The libtorch that the addon was last built against, while nothing asks for another. Asking python3 again would cost
 * each run more than all the rest.
 * @param {string} build
 * @param {Env} env
 * @param {boolean} gpu
 */
export function lastLibtorch(build, env, gpu = hasGpu()) {
  /** @type {Libtorch | undefined} */
  const last = readJson(join(build, 'libtorch.json'));
  if (last === undefined) return undefined;
  if (env['LIBTORCH'] ? last.folder !== resolve(env['LIBTORCH']) : last.source === 'LIBTORCH') return undefined;
  // A GPU was added, or the build folder came from a machine without one.
  if (last.source === 'cache' && !last.cuda && gpu) return undefined;
  if (last.source === 'cache' && !isComplete(dirname(last.folder))) return undefined;
  const found = inspectLibtorch(last.folder);
  return typeof found !== 'string' && found.version === last.version ? last : undefined;
}

/** The results of both, or the first failure once both have ended: a download is not cut off by its neighbour's failure. @template A, B @param {Promise<A>} a @param {Promise<B>} b @returns {Promise<[A, B]>} */
async function both(a, b) {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

/**
 * Runs the steps that are needed. Tools are looked for before anything large is fetched.
 * @param {{ env: Env, root?: string, nativeOnly?: boolean, gpu?: boolean, say?: (line: string) => void }} options
 */
export async function setup({ env, root = packageRoot, nativeOnly = false, gpu = hasGpu(), say = () => {} }) {
  const build = join(root, 'build');
  let libtorch = lastLibtorch(build, env, gpu);
  if (libtorch === undefined) {
    const found = locateLibtorch({ env, gpu, say });
    requireAll([() => requireTools(env), ...(found ? [] : [() => requireInstaller(env)])]);
    [libtorch] = await both(found ? Promise.resolve(found) : installLibtorch({ env, gpu, say }), installPackages({ root, env, say }));
  } else {
    await installPackages({ root, env, say });
  }
  if (!isBuilt(root, build, libtorch)) await buildNative({ root, build, libtorch, env, say });
  if (!nativeOnly) await compileSources({ root, env, say });
}

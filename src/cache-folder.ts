import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** The folder that clones share: TINYLLAVA_CACHE, or tinyllava/ in the user's cache folder. Set-up keeps libtorch and data there. */
export function cacheFolder(env: NodeJS.ProcessEnv): string {
  const { TINYLLAVA_CACHE: own, XDG_CACHE_HOME: user, HOME: home } = env;
  return resolve(own || join(user || join(home || homedir(), '.cache'), 'tinyllava'));
}

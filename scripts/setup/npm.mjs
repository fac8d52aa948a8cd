import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { requireSpace } from './cache.mjs';
import { findCommand, stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { withLock } from './lock.mjs';
import { readJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

/** Whether node_modules is what package-lock.json says, by the list that npm leaves there when it is done. @param {string} root */
export function packagesAreInstalled(root) {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const present = readJson(join(root, 'node_modules/.package-lock.json'))?.packages;
  if (present === undefined) return false;
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    if (path === '') return true;
    const found = present[path];
    // Optional packages are those of other platforms.
    if (found === undefined) return optional === true;
    return found.version === version && found.integrity === integrity && existsSync(join(root, path, 'package.json'));
  });
}

/** Installs what package-lock.json lists, where it is not installed. @param {{ root: string, env: Env, say: (line: string) => void }} options */
export async function installPackages({ root, env, say }) {
  // A package that npm installed as a dependency has no lock file, and its packages lie where npm put them.
  if (!existsSync(join(root, 'package-lock.json')) || packagesAreInstalled(root)) return;
  const npm = findCommand('npm', env);
  if (npm === undefined) throw new SetupFailure('no npm found: npm is not on PATH', 'install Node with its npm (https://nodejs.org)');
  requireSpace(root, 6e8, 'installing npm packages');
  mkdirSync(join(root, 'build'), { recursive: true });
  await withLock(join(root, 'build/packages.lock'), () => installOnce(npm, { root, env, say }), {
    waiting: () => say('another process is installing npm packages; waiting for it'),
  });
}

/** @param {string} npm @param {{ root: string, env: Env, say: (line: string) => void }} options */
async function installOnce(npm, { root, env, say }) {
  if (packagesAreInstalled(root)) return;
  say('installing npm packages');
  // npm's own pauses between tries add up to minutes where there is no network.
  const retries = ['--fetch-retries=3', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=4000'];
  const args = ['--include=dev', '--no-audit', '--no-fund', '--loglevel=error', ...retries];
  /** @param {string[]} verb */
  const run = (verb) => stream(npm, [...verb, ...args], { env, cwd: root, quiet: true });
  let { status, output } = await run(['ci']);
  // An npm whose parent was killed may still be writing.
  if (status !== 0 && /npm error code (?:ENOTEMPTY|EEXIST|ENOENT)/.test(output)) ({ status, output } = await run(['ci']));
  // A lock file written where the registry lacks other platforms' packages does not list them, and `npm ci` refuses it.
  if (status !== 0 && /npm error code EUSAGE/.test(output)) ({ status, output } = await run(['install', '--no-save']));
  if (status === 0) return;
  process.stderr.write(output);
  if (/ENOSPC|EDQUOT/.test(output))
    throw new SetupFailure('the disk became full while installing npm packages', 'free some space and run this again');
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|network/i.test(output)) {
    throw new SetupFailure(
      'no package registry could be reached to install npm packages',
      'check the network and the registry and proxy of `npm config list`, and run this again',
    );
  }
  throw new SetupFailure('the npm packages could not be installed', "see npm's messages above");
}

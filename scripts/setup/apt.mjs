import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { findCommand, stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

/**
 * Fetches a Debian package and unpacks it into `folder` without installing it; needs neither root nor space outside the folder.
 * @param {{ folder: string, name: string, what: string, env: Env, otherwise: string }} options
 */
export async function aptUnpack({ folder, name, what, env, otherwise }) {
  const [apt, dpkg] = ['apt-get', 'dpkg-deb'].map((command) => findCommand(command, env));
  if (apt === undefined || dpkg === undefined) {
    throw new SetupFailure(`no ${apt === undefined ? 'apt-get' : 'dpkg-deb'} found: ${what} come as a Debian package`, otherwise);
  }
  // `_apt`, as which root's apt downloads, cannot write here, and says so at length
  const { status, output } = await stream(apt, ['-o', 'APT::Sandbox::User=root', '-q', 'download', name], { env, cwd: folder });
  if (status !== 0) throw aptFailure(output, what, otherwise);
  const file = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
  if (file === undefined) throw new SetupFailure(`apt-get left no package of ${what}`, otherwise);
  const unpacked = await stream(dpkg, ['-x', join(folder, file), join(folder, 'unpacked')], { env });
  if (unpacked.status === 0) return join(folder, 'unpacked');
  if (/No space left on device|quota exceeded/i.test(unpacked.output)) {
    throw new SetupFailure(
      `the disk became full while unpacking ${what}`,
      'free some space, or set TINYLLAVA_CACHE to a folder on another disk',
    );
  }
  throw new SetupFailure(`${file} cannot be unpacked: ${unpacked.output.trim().split('\n').at(-1)}`, otherwise);
}

/** @param {string} output @param {string} what @param {string} otherwise */
function aptFailure(output, what, otherwise) {
  if (/No space left on device|quota exceeded/i.test(output)) {
    return new SetupFailure(
      `the disk became full while fetching ${what}`,
      'free some space, or set TINYLLAVA_CACHE to a folder on another disk',
    );
  }
  if (/Unable to locate package|No candidate|Can't select candidate|is not available/i.test(output)) {
    return new SetupFailure(
      `apt knows no package of ${what}`,
      `refresh its lists with \`sudo apt-get update\` and run this again; or ${otherwise}`,
    );
  }
  if (/Could not resolve|Temporary failure|Could not connect|Connection|Failed to fetch|unreachable|timed out/i.test(output)) {
    return new SetupFailure(`no Debian mirror could be reached to fetch ${what}`, `check the network and run this again; or ${otherwise}`);
  }
  return new SetupFailure(`apt-get could not fetch ${what}: ${output.trim().split('\n').at(-1)}`, otherwise);
}

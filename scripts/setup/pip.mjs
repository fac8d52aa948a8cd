import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { capture, findCommand, stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

const outOfSpace = /No space left on device|Errno 28|Disk quota exceeded|Errno 122/;
const noNetwork =
  /NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|ReadTimeout|Read timed out|Connection (?:refused|reset|aborted|broken)|ProxyError|SSLError|CERTIFICATE_VERIFY|unreachable|HTTPError|IncompleteRead/;
const notOffered = /No matching distribution|Could not find a version/;

/** python3 with pip, or a SetupFailure that says which is missing; `otherwise` is a way to do without. @param {Env} env @param {string} otherwise */
export function requirePip(env, otherwise) {
  const python = findCommand('python3', env);
  if (python === undefined) {
    throw new SetupFailure(
      'no Python found: python3 is not on PATH',
      `install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip)${otherwise}`,
    );
  }
  const { status, stdout } = capture(python, ['-m', 'pip', '--version'], env);
  const version = Number(stdout.match(/^pip (\d+)/)?.[1] ?? 0);
  if (status !== 0 || version === 0) {
    throw new SetupFailure(
      `no pip found: ${python} -m pip does not run`,
      `install pip (Debian, Ubuntu: sudo apt install python3-pip; elsewhere: ${python} -m ensurepip)${otherwise}`,
    );
  }
  if (version < 20) {
    throw new SetupFailure(`pip ${version} is too old; 20 or later is needed`, `run ${python} -m pip install --upgrade pip${otherwise}`);
  }
  return { python, version };
}

/** What a failed pip said, as a SetupFailure. @param {string} output @param {string} what @param {string} otherwise */
function pipFailure(output, what, otherwise) {
  if (outOfSpace.test(output)) {
    return new SetupFailure(
      `the disk became full while installing ${what}`,
      'free some space (also where pip keeps its cache), or set TINYLLAVA_CACHE to a folder on another disk, and run this again',
    );
  }
  if (noNetwork.test(output)) {
    return new SetupFailure(
      `the package index could not be reached to install ${what}`,
      `check the network and pip's index and proxy (python3 -m pip config list), and run this again${otherwise}`,
    );
  }
  if (notOffered.test(output)) {
    return new SetupFailure(
      `the package index does not offer ${what} for this machine`,
      `check which index pip uses (python3 -m pip config list)${otherwise}`,
    );
  }
  const last = output.trim().split('\n').at(-1) ?? '';
  return new SetupFailure(`pip could not install ${what}: ${last}`, `see pip's messages above, and run this again${otherwise}`);
}

/**
 * Unpacks wheels into `site` of an existing folder and returns it. Only data, libraries and headers are used from them, so the
 * wheel of any Python will do, whatever python3 is.
 * @param {{ folder: string, packages: readonly string[], dependencies?: boolean, what: string, env: Env, otherwise?: string }} options
 */
export async function pipInstall({ folder, packages, dependencies = false, what, env, otherwise = '' }) {
  const { python, version } = requirePip(env, otherwise);
  const site = join(folder, 'site');
  // pip unpacks in TMPDIR first: on the same disk, its last step is a rename.
  const temporary = join(folder, 'tmp');
  mkdirSync(temporary, { recursive: true });
  const args = ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-user', '--no-compile', '--retries', '3', '--target', site];
  args.push('--only-binary=:all:', '--implementation', 'cp', '--python-version', '3.12');
  if (version >= 22) args.push('--root-user-action=ignore');
  if (!dependencies) args.push('--no-deps');
  const settings = { ...env, TMPDIR: temporary, PIP_REQUIRE_VIRTUALENV: '0', PYTHONUNBUFFERED: '1' };
  const { status, output } = await stream(python, [...args, ...packages], { env: settings });
  if (status !== 0) throw pipFailure(output, what, otherwise);
  return site;
}

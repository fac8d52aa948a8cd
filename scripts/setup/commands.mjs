import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

/** @typedef {Record<string, string | undefined>} Env */

/** The path of an executable on PATH, or undefined. @param {string} name @param {Env} env @returns {string | undefined} */
export function findCommand(name, env) {
  const folders = isAbsolute(name) ? [''] : (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const folder of folders) {
    const path = folder === '' ? name : join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not here
    }
  }
  return undefined;
}

/** Runs a short command to its end. `status` is -1 when it could not be started. @param {string} command @param {string[]} args @param {Env} env */
export function capture(command, args, env) {
  const { status, stdout, stderr } = spawnSync(command, args, { env, encoding: 'utf8', timeout: 60_000 });
  return { status: status ?? -1, stdout: stdout ?? '', stderr: stderr ?? '' };
}

/**
 * Runs a long command, passing what it prints on to standard error. Resolves to its exit status (-1: not started, or killed)
 * and the end of its output.
 * @param {string} command
 * @param {string[]} args
 * @param {{ env: Env, cwd?: string, quiet?: boolean }} options
 * @returns {Promise<{ status: number, output: string }>}
 */
export function stream(command, args, { env, cwd, quiet = false }) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    const stop = () => {
      child.kill();
      process.exit(143);
    };
    process.once('SIGTERM', stop);
    /** @param {Buffer} chunk */
    const pass = (chunk) => {
      output = (output + chunk.toString()).slice(-40_000);
      if (!quiet) process.stderr.write(chunk);
    };
    child.stdout.on('data', pass);
    child.stderr.on('data', pass);
    /** @param {number | null} status */
    const end = (status) => {
      process.removeListener('SIGTERM', stop);
      resolve({ status: status ?? -1, output });
    };
    child.once('error', (error) => {
      output += error.message;
      end(-1);
    });
    child.once('close', end);
  });
}

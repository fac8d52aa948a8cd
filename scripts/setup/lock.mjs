import { existsSync, linkSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const heartbeatMs = 5_000;
// A holder on another host (a shared home folder) is judged by its heartbeat alone, since its process cannot be seen.
const staleMs = 120_000;

/** @param {string} path */
function isStale(path) {
  try {
    if (Date.now() - statSync(path).mtimeMs > staleMs) return true;
    const [host, pid] = readFileSync(path, 'utf8').trim().split(' ');
    if (host === hostname()) process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    return code === 'ESRCH';
  }
}

/** Removes a lock that nobody holds, unless another process took it over meanwhile. @param {string} path */
function breakStale(path) {
  const moved = `${path}.stale-${process.pid}`;
  try {
    renameSync(path, moved);
    if (!isStale(moved)) linkSync(moved, path);
  } catch {
    // another process was faster
  }
  rmSync(moved, { force: true });
}

/**
 * Runs `work` while holding the lock file at `path`; waits for another holder, and takes over the lock of a dead one.
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} work
 * @param {{ waiting?: () => void, pollMs?: number }} options
 * @returns {Promise<T>}
 */
export async function withLock(path, work, { waiting = () => {}, pollMs = 500 } = {}) {
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(path, `${hostname()} ${process.pid}\n`, { flag: 'wx' });
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    if (isStale(path)) {
      breakStale(path);
    } else {
      if (tries === 0) waiting();
      await sleep(pollMs);
    }
  }
  const heartbeat = setInterval(() => {
    if (existsSync(path)) utimesSync(path, new Date(), new Date());
  }, heartbeatMs);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    rmSync(path, { force: true });
  }
}

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import type { Place } from '../../src/tensor/distributed.ts';
import { freePort } from '../train/ranks.ts';

const members: ChildProcess[] = [];
afterEach(async () => {
  await Promise.all(
    members.splice(0).map(async (member) => {
      member.stdin?.end();
      if (member.exitCode === null) await once(member, 'exit');
    }),
  );
});

/** Starts a member and gives what it says of its joining. */
async function joinGroup(place: Omit<Place, 'host'> & { host?: string }, meeting = 60): Promise<string> {
  const told = JSON.stringify({ place: { host: '127.0.0.1', ...place }, patience: { meeting } });
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'member.ts'), told], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  members.push(child);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return line;
}

const both = (port: number, ...places: Omit<Place, 'host' | 'port'>[]): Promise<string[]> =>
  Promise.all(places.map((place) => joinGroup({ ...place, port })));

test('a port that is taken is said at once', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  expect(await joinGroup({ rank: 0, size: 2, port })).toBe(`rank 0 cannot join at 127.0.0.1:${port}: the port is taken`);
  server.close();
});

test('a rank that finds no rendezvous gives up, and says where and for how long', async () => {
  const port = await freePort();
  expect(await joinGroup({ rank: 1, size: 2, port }, 1)).toMatch(
    new RegExp(`^rank 1 cannot join at 127.0.0.1:${port}: no rendezvous has answered there for \\d+ s$`),
  );
  expect(await joinGroup({ rank: 1, size: 2, host: 'nowhere.invalid', port }, 1)).toBe(
    `rank 1 cannot join at nowhere.invalid:${port}: the host nowhere.invalid is not known`,
  );
});

test('ranks that have not come are named', async () => {
  const port = await freePort();
  expect(await joinGroup({ rank: 0, size: 4, port }, 1)).toBe(
    `rank 0 cannot join at 127.0.0.1:${port}: of 4 processes these ranks have not come: 1, 2, 3`,
  );
});

test('ranks of jobs of another size name each other', async () => {
  const port = await freePort();
  const [first, second] = await both(port, { rank: 0, size: 2 }, { rank: 1, size: 3 });
  expect(first).toMatch(/: rank 1 \(.+, process \d+\) is of 3 processes of tinyllava .+, and this rank of 2 processes of tinyllava .+$/);
  expect(second).toMatch(/: rank 0 \(.+, process \d+\) is of 2 processes of tinyllava .+, and this rank of 3 processes of tinyllava .+$/);
});

test('a rank that there is already is refused', async () => {
  const port = await freePort();
  expect(await both(port, { rank: 0, size: 2 }, { rank: 1, size: 2 })).toEqual(['together 2', 'together 2']);
  expect(await joinGroup({ rank: 1, size: 2, port })).toMatch(/: another process is rank 1 already: .+, process \d+$/);
});

test('ranks of a second attempt meet each other where those of the first have met', async () => {
  const port = await freePort();
  expect(await both(port, { rank: 0, size: 2 }, { rank: 1, size: 2 })).toEqual(['together 2', 'together 2']);
  const again = { size: 2, serves: false, attempt: 1 };
  expect(await both(port, { ...again, rank: 0 }, { ...again, rank: 1 })).toEqual(['together 2', 'together 2']);
});

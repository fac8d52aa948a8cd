import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readRecipe, writeRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { ranks } from './ranks.ts';
import { tinyData } from './tiny-data.ts';

const names = ['tinyllava-a', 'tinyllava-b'] as const;
const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' });

/** Two network namespaces with a cable between them and nothing else, as two machines have; false where that is not allowed. */
function connectHosts(): boolean {
  removeHosts(); // those of a run that was broken off, or whose tests were all left out
  try {
    for (const name of names) ip('netns', 'add', name);
    ip('link', 'add', 'cable', 'netns', names[0], 'type', 'veth', 'peer', 'name', 'cable', 'netns', names[1]);
    for (const [i, name] of names.entries()) {
      ip('-n', name, 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', 'cable');
      for (const device of ['cable', 'lo']) ip('-n', name, 'link', 'set', device, 'up');
    }
    return true;
  } catch {
    removeHosts();
    return false;
  }
}

function removeHosts(): void {
  for (const name of names) {
    try {
      ip('netns', 'del', name);
    } catch {
      // it is not there
    }
  }
}

const connected = connectHosts();

// Needs the right to make network namespaces, and `ip` of iproute2.
describe.skipIf(!connected)('two hosts', () => {
  const hosts = { host: '10.77.0.1', prefix: (rank: number) => ['ip', 'netns', 'exec', names[rank] ?? ''] };
  let root: string;
  beforeAll(async () => {
    root = await tinyData();
  });
  afterAll(async () => {
    removeHosts();
    await rm(root, { recursive: true });
  });

  async function recipeOf(steps: number): Promise<string> {
    const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
    const file = join(root, `${steps}.yaml`);
    await writeFile(
      file,
      writeRecipe({ ...whole, stages: whole.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps, batchSize: 6 })) }),
    );
    return file;
  }

  test('train together what one learns alone', async () => {
    const recipe = await recipeOf(3);
    const losses = (stages: Awaited<ReturnType<typeof train>>['stages'] | undefined) =>
      stages?.flatMap(({ steps }) => steps.map(({ loss }) => Number(loss.toPrecision(4))));
    const alone = await train(await readRecipe(recipe), { root, workers: 0 });
    const [first, second] = await ranks(2, { recipe, options: { root, sharded: true } }, hosts);
    expect([first?.error, second?.error]).toEqual([undefined, undefined]);
    expect(losses(first?.stages)).toEqual(losses(alone.stages));
  });

  test('end when the folder of the run is not the same on both', async () => {
    const [recipe, out] = [await recipeOf(3), join(root, 'apart')];
    await mkdir(out);
    const mount = ['sh', '-c', `mount -t tmpfs none ${out} && exec "$@"`, 'sh'];
    const prefix = (rank: number): string[] => [...hosts.prefix(rank), ...(rank === 1 ? mount : [])];
    const all = await ranks(2, { recipe, options: { root, out } }, { ...hosts, prefix });
    const message = new RegExp(`^rank 1 \\(.+\\) does not see the files that rank 0 \\(.+\\) writes in ${out}$`);
    for (const one of all) expect(one?.error).toMatch(message);
  });

  /** Waits until training goes on. */
  async function underWay(out: string): Promise<void> {
    const metrics = join(out, 'metrics.jsonl');
    while (!existsSync(metrics) || !readFileSync(metrics, 'utf8').includes('"step":3'))
      await new Promise((resolve) => setTimeout(resolve, 100));
  }

  test.each([
    ['rank 1 is killed', 1, /^rank 1 \(.*\) no longer answers$/],
    ['rank 0, which the others meet at, is killed', 0, /: rank 0 \(.*\) is gone/],
  ] as const)('when %s, the other ends within a minute and names it', async (_, killed, message) => {
    const [recipe, out] = [await recipeOf(100_000), join(root, `killed-${killed}`)];
    let at = 0;
    const during = async (children: readonly { kill(signal: 'SIGKILL'): boolean }[]): Promise<void> => {
      await underWay(out);
      at = performance.now();
      children[killed]?.kill('SIGKILL');
    };
    const all = await ranks(2, { recipe, options: { root, out } }, { ...hosts, during });
    expect(performance.now() - at).toBeLessThan(60_000);
    expect(all[killed]).toBeUndefined();
    expect(all[1 - killed]?.error).toMatch(message);
  });

  test('when the cable is cut, both end within a minute and name each other', async () => {
    const [recipe, out] = [await recipeOf(100_000), join(root, 'cut')];
    let at = 0;
    const during = async (): Promise<void> => {
      await underWay(out);
      at = performance.now();
      ip('-n', names[1], 'link', 'set', 'cable', 'down');
    };
    const [first, second] = await ranks(2, { recipe, options: { root, out } }, { ...hosts, during });
    expect(performance.now() - at).toBeLessThan(60_000);
    expect(first?.error).toMatch(/^rank 1 \(.*\) no longer answers$/);
    expect(second?.error).toMatch(/: rank 0 \(.*\) is gone, or the network to it$/);
  });
});

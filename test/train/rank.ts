// One rank of a job of the tests: what it is to do comes as JSON, what came of it goes to standard output.

import { setThreads } from '../../src/tensor/device.ts';
import { ProcessGroup } from '../../src/tensor/distributed.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import type { RankJob } from './ranks.ts';

const { place, recipe, options, stopBehind, killBehind } = JSON.parse(process.argv[2] ?? '') as RankJob;
setThreads(1);
try {
  const group = new ProcessGroup(place, { meeting: 60, silence: 5 });
  const controller = new AbortController();
  const { stages, stopped } = await train(await readRecipe(recipe), {
    ...options,
    workers: 0,
    group,
    signal: controller.signal,
    onStep: ({ step, stage }) => {
      if (stopBehind?.stage === stage && stopBehind.step === step) controller.abort();
      if (killBehind?.stage === stage && killBehind.step === step) process.kill(process.pid, 'SIGKILL');
    },
  });
  const { traffic } = group;
  group.close();
  process.stdout.write(`${JSON.stringify({ stages, stopped, traffic })}\n`);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
  process.exitCode = 1;
}

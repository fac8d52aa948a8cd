// Prints what a training step costs against the tokens that are packed into its batch, in seconds, of the cores too, and in memory; and how near that is to a line.
//   npx tsx bench/linear-cost.ts [--most TOKENS] [--precision float32] [--threads N]
// Each size is measured in a process of its own, so that its peak of memory is its own.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { countModel, type ModelCounts } from '../scripts/scaling/counts.ts';
import { rowWork, workOf } from '../scripts/scaling/flops.ts';
import { setThreads } from '../src/tensor/device.ts';
import type { Precision } from '../src/train/precision.ts';
import { TowerFeatures } from '../src/train/tower-features.ts';
import { processor } from './machine.ts';
import { cpuSeconds, milliseconds } from './measure.ts';
import { instructed, randomRows, smolLlava } from './smol-llava.ts';
import { featuresInput, imageProcessor, Training } from './training.ts';

const { values } = parseArgs({
  options: {
    most: { type: 'string', default: '8192' },
    precision: { type: 'string', default: 'bfloat16' },
    threads: { type: 'string', default: '2' },
    tokens: { type: 'string' },
  },
});
const rowTokens = 256;

/** What one size takes. */
interface Cost {
  readonly tokens: number;
  readonly seconds: number;
  readonly cpu: number;
  readonly megabytes: number;
}

/** Measures steps on so many tokens in this process. */
function measure(tokens: number): Cost {
  setThreads(Number(values.threads));
  const model = smolLlava(196);
  if (!model.visionTower) throw new Error('there is no tower');
  const training = new Training(model, { stage: 'instruct', precision: values.precision as Precision, learningRate: 1e-5 });
  const features = new TowerFeatures(model.visionTower, imageProcessor(model.visionTower.imageSize), { memoryBytes: 0 });
  const rows = randomRows(model, { rows: tokens / rowTokens, text: rowTokens - model.imageTokens });
  const input = featuresInput(rows, (images) => features.encode(images));
  training.step(input);
  const [before, times] = [cpuSeconds(), 3];
  const seconds = milliseconds(() => training.step(input), { times, warmup: 0 }) / 1000;
  return { tokens, seconds, cpu: (cpuSeconds() - before) / times, megabytes: process.resourceUsage().maxRSS / 1024 };
}

/** The same in another process. */
function measureApart(tokens: number): Cost {
  const argv = ['--precision', values.precision, '--threads', values.threads, '--tokens', String(tokens)];
  const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', import.meta.filename, ...argv], { encoding: 'utf8' });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Cost;
}

/** The straight line through points by least squares, how much of their variance it explains, and the farthest point's distance by its value. */
function line(points: readonly (readonly [number, number])[]) {
  const mean = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const [x, y] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  const slope = mean(points.map(([a, b]) => (a - x) * (b - y))) / mean(points.map(([a]) => (a - x) ** 2));
  const start = y - slope * x;
  const missed = points.map(([a, b]) => b - (start + slope * a));
  const explained = 1 - mean(missed.map((miss) => miss ** 2)) / mean(points.map(([, b]) => (b - y) ** 2));
  return { start, slope, explained, farthest: Math.max(...missed.map((miss, i) => Math.abs(miss / (points[i]?.[1] ?? Number.NaN)))) };
}

/** The share of a step's flops that grows with the square of a row's length, for rows of so many tokens. */
function quadraticShare(counts: ModelCounts, tokens: number): number {
  const text = tokens - counts.viewTokens;
  const work = rowWork(counts, { views: 1, text, supervised: text / 2 }, { recompute: false });
  return (work.forward.attention + work.backward.attention) / workOf(work);
}

function page(costs: readonly Cost[]): string {
  const what = [
    ['seconds', ({ seconds }: Cost) => seconds],
    ['seconds of the cores', ({ cpu }: Cost) => cpu],
    ['peak memory, MB', ({ megabytes }: Cost) => megabytes],
  ] as const;
  const fits = what.map(([name, value]) => {
    const { start, slope, explained, farthest } = line(costs.map((cost) => [cost.tokens, value(cost)]));
    const [base, more] = [start.toPrecision(3), (1000 * slope).toPrecision(3)];
    return `| ${name} | ${base} + ${more} per 1000 tokens | ${explained.toFixed(4)} | ${(100 * farthest).toFixed(1)} % |`;
  });
  const counts = countModel(smolLlava(196), { learns: instructed });
  const shares = [256, 512, 1024, 2048, 4096].map((tokens) => `${(100 * quadraticShare(counts, tokens)).toFixed(1)} % at ${tokens}`);
  return `# What a training step costs by its tokens

${processor().name}, ${values.threads} threads, ${values.precision}. The second stage of a LLaVA of SmolLM2-135M's shape with a SigLIP-base tower, on rows of ${rowTokens} tokens, 196 of
them of an image that is new, packed into one batch.

| tokens | seconds | of the cores | peak memory, MB |
|---|---|---|---|
${costs.map(({ tokens, seconds, cpu, megabytes }) => `| ${tokens} | ${seconds.toFixed(2)} | ${cpu.toFixed(2)} | ${megabytes.toFixed(0)} |`).join('\n')}

| | line by least squares | R² | farthest point |
|---|---|---|---|
${fits.join('\n')}

The optimizer's step and the weights are what does not depend on the tokens. Attention is within a row: the share of flops that grows with the square of a row's length is
${shares.join(', ')} tokens a row, however many rows there are.`;
}

if (values.tokens !== undefined) console.log(JSON.stringify(measure(Number(values.tokens))));
else {
  const sizes = Array.from({ length: 16 }, (_, i) => rowTokens * 2 ** i).filter((tokens) => tokens <= Number(values.most));
  console.log(page(sizes.map(measureApart)));
}

// npx tsx bench/load.ts [--gigabytes N]: how much memory opening a checkpoint takes beside its weights, against the bound of 1.15 times their size.
// The peak is VmHWM of a process of its own, less what it was with the addon and all modules loaded; pages of mapped files count in it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadCheckpoint, saveCheckpoint } from '../src/model/checkpoint.ts';
import { createTinyLlava } from '../src/model/tinyllava.ts';
import { empty } from '../src/tensor/create.ts';
import { type DType, dtypeBytes } from '../src/tensor/dtype.ts';
import { Generator } from '../src/tensor/random.ts';

const bound = 1.15;
const { values } = parseArgs({
  options: { gigabytes: { type: 'string', default: '1' }, opened: { type: 'string' }, how: { type: 'string', default: '{}' } },
});

/** A line of /proc/self/status in bytes. */
function status(name: string): number {
  return 1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

/** Opens a checkpoint and prints what that took. */
async function open(folder: string, how: { dtype?: DType; mapped?: boolean }): Promise<void> {
  empty([1]);
  const [before, start] = [status('VmHWM'), performance.now()];
  const { model } = await loadCheckpoint(folder, how);
  const [peak, seconds] = [status('VmHWM') - before, (performance.now() - start) / 1000];
  let bytes = 0;
  for (const parameter of model.parameters()) bytes += parameter.bytes;
  console.log(JSON.stringify({ peak, seconds, bytes }));
}

/** A Llama of random weights with so many bytes of them, saved once. */
async function make(
  name: string,
  { dtype, bytes, maxShardBytes }: { dtype: DType; bytes: number; maxShardBytes?: number },
): Promise<string> {
  const folder = join(import.meta.dirname, '../build/bench', `load-${name}-${bytes}`);
  if (existsSync(folder)) return folder;
  const [width, vocabSize] = [1024, 32_000];
  const block = { hiddenSize: width, intermediateSize: 3 * width, numAttentionHeads: 16, numKeyValueHeads: 4 };
  const parameters = (layers: number): number =>
    createTinyLlava({ language: { type: 'llama', vocabSize, ...block, numHiddenLayers: layers } }).parameterCount();
  const perLayer = parameters(2) - parameters(1);
  const layers = Math.max(1, Math.round((bytes / dtypeBytes(dtype) - parameters(1)) / perLayer) + 1);
  const model = createTinyLlava({ language: { type: 'llama', vocabSize, ...block, numHiddenLayers: layers } });
  model.initialize(new Generator(1), { dtype });
  mkdirSync(join(folder, '..'), { recursive: true });
  await saveCheckpoint(folder, model, {}, maxShardBytes === undefined ? {} : { maxShardBytes });
  return folder;
}

if (values.opened !== undefined) await open(values.opened, JSON.parse(values.how));
else {
  const bytes = Number(values.gigabytes) * 1e9;
  const folders = {
    bfloat16: await make('bfloat16', { dtype: 'bfloat16', bytes }),
    float32: await make('float32', { dtype: 'float32', bytes }),
    shards: await make('shards', { dtype: 'bfloat16', bytes, maxShardBytes: bytes / 4 }),
  };
  const ways = [
    { stored: 'bfloat16', how: {} },
    { stored: 'bfloat16', how: { mapped: true } },
    { stored: 'bfloat16', how: { dtype: 'float32' } },
    { stored: 'float32', how: {} },
    { stored: 'float32', how: { dtype: 'bfloat16' } },
    { stored: 'shards', how: {} },
    { stored: 'shards', how: { mapped: true } },
  ] as const;
  console.log('| stored | opened with | weights | peak | peak / larger of stored and opened | seconds |\n|---|---|---|---|---|---|');
  for (const { stored, how } of ways) {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', import.meta.filename, '--opened', folders[stored], '--how', JSON.stringify(how)],
      { encoding: 'utf8' },
    );
    if (stdout === '') throw new Error(stderr);
    const found = JSON.parse(stdout) as { peak: number; seconds: number; bytes: number };
    const ratio = found.peak / Math.max(bytes, found.bytes);
    const megabytes = (value: number): string => `${Math.round(value / 1e6)} MB`;
    console.log(
      `| ${stored} | ${JSON.stringify(how)} | ${megabytes(found.bytes)} | ${megabytes(found.peak)} | ${ratio.toFixed(3)} | ${found.seconds.toFixed(2)} |`,
    );
    if (ratio > bound) process.exitCode = 1;
  }
}

// npx tsx bench/ranks.ts [--ranks 1,2,4] [--precision bfloat16]: what a rank holds between two steps, at its peak, and sends in a step, when a SmolLM2-135M-shaped
// Llama of random weights learns with AdamW on 2 x 256 tokens a rank: replicated on every rank, and sharded.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { createTinyLlava } from '../src/model/tinyllava.ts';
import { memory, setThreads } from '../src/tensor/device.ts';
import { ProcessGroup } from '../src/tensor/distributed.ts';
import { Generator } from '../src/tensor/random.ts';
import { AdamW } from '../src/train/adamw.ts';
import { Masters, type Precision } from '../src/train/precision.ts';
import { Replicas } from '../src/train/replicas.ts';
import { Shards } from '../src/train/shards.ts';
import { layersOf } from '../src/train/share.ts';
import { trainStep } from '../src/train/step.ts';

const { values } = parseArgs({
  options: {
    ranks: { type: 'string', default: '1,2,4' },
    precision: { type: 'string', default: 'float32' },
    place: { type: 'string' },
    sharded: { type: 'boolean', default: false },
  },
});
const precision = values.precision as Precision;

/** One rank: three steps, and what they took. */
function run(rank: number, size: number, port: number): void {
  setThreads(1);
  const group = new ProcessGroup({ rank, size, host: '127.0.0.1', port });
  const shape = { hiddenSize: 576, intermediateSize: 1536, numHiddenLayers: 30, numAttentionHeads: 9, numKeyValueHeads: 3 };
  const model = createTinyLlava({ language: { type: 'llama', vocabSize: 49_152, tieWordEmbeddings: true, ...shape } });
  model.initialize(new Generator(1)).trainable();
  const masters = new Masters(model, precision);
  const layers = layersOf(model);
  const groups = [{ parameters: new Map(model.namedParameters()), learningRate: 1e-4, weightDecay: 0 }];
  const shards = values.sharded ? new Shards(group, { model, layers, whole: undefined, masters }) : undefined;
  const options = { betas: [0.9, 0.999], eps: 1e-8, masters: shards?.beside ?? masters.beside } as const;
  const optimizer = new AdamW(shards?.groups(groups) ?? groups, options);
  shards?.feed(optimizer);
  const exchange = shards ?? new Replicas(group, { layers, optimizer });
  const ids = Int32Array.from({ length: 512 }, (_, i) => (i * 7919 + rank) % 49_152);
  const batch = { ids, labels: ids, lengths: [256, 256], rows: [] };
  const input = { supervisedTokens: 510 * size, microBatches: 1, batches: () => [batch] };
  const seconds: number[] = [];
  let sent = 0;
  for (let step = 0; step < 3; step++) {
    group.barrier();
    const [start, before] = [performance.now(), group.traffic];
    trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 1, recompute: true, team: group, exchange });
    seconds.push((performance.now() - start) / 1000);
    const { allReduce, allGather, reduceScatter } = group.traffic;
    sent = allReduce - before.allReduce + allGather - before.allGather + reduceScatter - before.reduceScatter;
  }
  const peak = 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
  console.log(JSON.stringify({ held: memory().tensorBytes, peak, sent, seconds: Math.min(...seconds) }));
  group.close();
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}

if (values.place !== undefined) {
  const [rank = 0, size = 1, port = 0] = values.place.split(',').map(Number);
  run(rank, size, port);
} else {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  console.log(`${precision}\n\n| ranks | weights | held between steps | peak | sent a step | seconds a step |\n|---|---|---|---|---|---|`);
  for (const size of values.ranks.split(',').map(Number)) {
    for (const sharded of [false, true]) {
      const port = await freePort();
      const children = Array.from({ length: size }, (_, rank) => {
        const args = ['--import', 'tsx', import.meta.filename, '--place', `${rank},${size},${port}`, '--precision', precision];
        return spawn(process.execPath, [...args, ...(sharded ? ['--sharded'] : [])], { stdio: ['ignore', 'pipe', 'inherit'] });
      });
      const found = await Promise.all(
        children.map(async ({ stdout }) => JSON.parse(await text(stdout)) as Record<'held' | 'peak' | 'sent' | 'seconds', number>),
      );
      const most = (what: keyof (typeof found)[number]): number => Math.max(...found.map((rank) => rank[what]));
      const row = [megabytes(most('held')), megabytes(most('peak')), megabytes(most('sent')), most('seconds').toFixed(2)];
      console.log(`| ${size} | ${sharded ? 'sharded' : 'replicated'} | ${row.slice(0, 3).join(' MB | ')} MB | ${row[3]} |`);
    }
  }
}

// npx tsx scripts/check-data-memory.ts [PATH] [--form json|tar] [--rows N] [--read N]: how long training data takes to open, to be measured for steps of like length and to be read
// in random order, and the most memory that this takes. Without a path it makes a set: LLaVA's JSON with the rows, turns and bytes of llava_v1_5_mix665k.json, or tar shards of small images.
// Fails when opening takes more than 1 GiB.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { Header } from 'tar/header';
import { openRows } from '../src/data/open-rows.ts';
import { Random } from '../src/data/random.ts';
import { Sampler } from '../src/data/sampler.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    form: { type: 'string', default: 'json' },
    rows: { type: 'string', default: '665298' },
    read: { type: 'string', default: '20000' },
  },
});
const rowCount = Number(values.rows);

/** Appends pieces to a file, a few megabytes at a time. */
function write(path: string, pieces: Iterable<Buffer>): void {
  const file = openSync(path, 'w');
  let waiting: Buffer[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < 1 << 22) continue;
    writeSync(file, Buffer.concat(waiting));
    [waiting, bytes] = [[], 0];
  }
  writeSync(file, Buffer.concat(waiting));
  closeSync(file);
}

/** Ten turns of 140 bytes a row on average, as LLaVA's mix has, one row in sixteen without an image. */
function* jsonPieces(): Iterable<Buffer> {
  const random = new Random(1);
  const words = 'the a of in on man woman dog street red blue what is are there how many visible image'.split(' ');
  const text = (): string => Array.from({ length: 8 + random.below(40) }, () => words[random.below(words.length)]).join(' ');
  for (let i = 0; i < rowCount; i++) {
    const pictured = random.below(16) > 0;
    const conversations = Array.from({ length: 2 + 2 * random.below(9) }, (_, turn) => ({
      from: turn % 2 === 0 ? 'human' : 'gpt',
      value: turn === 0 && pictured ? `<image>\n${text()}` : text(),
    }));
    const row = { id: String(i).padStart(12, '0'), ...(pictured && { image: `coco/train2017/${i}.jpg` }), conversations };
    yield Buffer.from(`${i === 0 ? '[' : ','}${JSON.stringify(row)}`);
  }
  yield Buffer.from(']');
}

const padding = (bytes: Uint8Array): Buffer => Buffer.alloc((512 - (bytes.length % 512)) % 512);

function* tarPieces(from: number, to: number, image: Buffer): Iterable<Buffer> {
  for (let i = from; i < to; i++) {
    for (const [ending, body] of [
      ['jpg', image],
      ['txt', Buffer.from(`number ${i} of a made up set`)],
    ] as const) {
      const header = new Header({ path: `${String(i).padStart(9, '0')}.${ending}`, type: 'File', mode: 0o644, size: body.length });
      header.encode();
      yield header.block as Buffer;
      yield body;
      yield padding(body);
    }
  }
  yield Buffer.alloc(1024);
}

async function made(folder: string): Promise<string> {
  if (values.form === 'json') {
    const path = join(folder, 'mix.json');
    write(path, jsonPieces());
    return path;
  }
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const;
  const image = await sharp({ create: { width: 96, height: 96, channels: 3, background: 'black', noise } })
    .jpeg()
    .toBuffer();
  const shard = 10_000;
  for (let from = 0; from < rowCount; from += shard)
    write(join(folder, `shard-${String(from / shard).padStart(4, '0')}.tar`), tarPieces(from, Math.min(rowCount, from + shard), image));
  return folder;
}

const folder = mkdtempSync(join(tmpdir(), 'tinyllava-data-'));
const peak = (): number => process.resourceUsage().maxRSS / 1024;
try {
  const path = positionals[0] ?? (await made(folder));
  const before = peak();
  let since = performance.now();
  const say = (what: string): void => {
    console.log(`${what}: ${((performance.now() - since) / 1000).toFixed(1)} s, at most ${peak().toFixed(0)} MiB resident so far`);
    since = performance.now();
  };
  console.log(`before: ${before.toFixed(0)} MiB resident`);
  using rows = await openRows(path);
  say(`${rows.length} rows opened`);
  if (peak() > 1024) process.exitCode = 1;
  await rows.sizes();
  say('sizes of all rows');
  const read = Math.min(Number(values.read), rows.length);
  const order = new Sampler({ parts: rows.parts, batchSize: read, seed: 1 }).next();
  say('order of an epoch');
  for (const row of order) await rows.row(row);
  say(`${read} rows read in that order`);
} finally {
  rmSync(folder, { recursive: true });
}

import { Random } from './random.ts';
import type { Block, Part } from './rows.ts';
import { rowsPerEpoch } from './shares.ts';

/** How rows are put in order. */
export interface OrderOptions {
  readonly parts: readonly Part[];
  readonly seed: number;
  /** Off: parts one behind the other, each in its order. */
  readonly shuffled: boolean;
  /** Rows that are drawn from at a time, more or less; all whose memory there is room for unless given. */
  readonly buffer?: number | undefined;
}

/** Streams of random numbers of a part, one for each time that its rows are gone through. */
const streamsOfPart = 2 ** 20;

/** The numbers for what concerns all parts of an epoch. */
export const randomOfEpoch = ({ parts, seed }: OrderOptions, epoch: number): Random =>
  new Random(seed, epoch + streamsOfPart * parts.length);

/** The rows of one epoch. All rows of a part come before one comes again, over the bounds of epochs too. */
export function orderOf(options: OrderOptions, epoch: number): Uint32Array {
  const { parts, shuffled } = options;
  const shares = rowsPerEpoch(parts);
  let first = 0;
  const orders = parts.map((part, i) => {
    const order = orderOfPart(options, { part: i, from: epoch * (shares[i] ?? 0), rows: shares[i] ?? 0 }).map((row) => row + first);
    first += part.rows;
    return order;
  });
  return shuffled ? mixed(orders, randomOfEpoch(options, epoch)) : joined(orders);
}

/** So many rows of a part, from a place on in the sequence that goes through all of them again and again. */
function orderOfPart(
  { parts, seed, shuffled, buffer }: OrderOptions,
  { part, from, rows }: { part: number; from: number; rows: number },
): Uint32Array {
  const { rows: count = 0, blocks = [] } = parts[part] ?? {};
  const pieces: Uint32Array[] = [];
  for (let at = from; at < from + rows; ) {
    const time = Math.floor(at / count);
    const once = shuffled ? shuffledOnce(blocks, new Random(seed, time + streamsOfPart * part), buffer) : numbers(0, count);
    const piece = once.subarray(at % count, (at % count) + from + rows - at);
    pieces.push(piece);
    at += piece.length;
  }
  return joined(pieces);
}

interface OpenBlock extends Block {
  readonly order: Uint32Array;
  left: number;
}

/** Blocks in random order, as many open at a time as there is room for; each row is drawn from a random one of these. One shuffle where all can be open. */
function shuffledOnce(blocks: readonly Block[], random: Random, buffer = Number.POSITIVE_INFINITY): Uint32Array {
  const starts: number[] = [];
  let count = 0;
  for (const { rows } of blocks) {
    starts.push(count);
    count += rows;
  }
  if (sumOf(blocks, 'memory') <= 1 && count <= buffer) return random.shuffle(numbers(0, count));
  const closed = random.shuffle(blocks.map((_, i) => i).filter((i) => (blocks[i]?.rows ?? 0) > 0));
  const open: OpenBlock[] = [];
  const openMore = (): void => {
    for (let next = closed.at(-1); next !== undefined; next = closed.at(-1)) {
      const block = blocks[next] as Block;
      const fits = sumOf(open, 'memory') + block.memory <= 1 && sumOf(open, 'rows') < buffer;
      if (open.length > 0 && !fits) return;
      closed.pop();
      open.push({ ...block, order: random.shuffle(numbers(starts[next] ?? 0, block.rows)), left: block.rows });
    }
  };
  const order = new Uint32Array(count);
  openMore();
  for (let at = 0; at < count; at++) {
    const chosen = random.below(open.length);
    const block = open[chosen] as OpenBlock;
    order[at] = block.order[--block.left] ?? 0;
    if (block.left > 0) continue;
    open.splice(chosen, 1);
    openMore();
  }
  return order;
}

const sumOf = (blocks: readonly Block[], what: 'rows' | 'memory'): number => blocks.reduce((sum, block) => sum + block[what], 0);

const numbers = (from: number, count: number): Uint32Array => Uint32Array.from({ length: count }, (_, i) => from + i);

function joined(pieces: readonly Uint32Array[]): Uint32Array {
  const all = new Uint32Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** One order of several, each of which keeps its own; every way of putting them together is as likely. */
function mixed(orders: readonly Uint32Array[], random: Random): Uint32Array {
  const [only] = orders;
  if (only && orders.length === 1) return only;
  const turns = random.shuffle(joined(orders.map(({ length }, i) => new Uint32Array(length).fill(i))));
  const taken = orders.map(() => 0);
  return turns.map((i) => {
    const at = taken[i] ?? 0;
    taken[i] = at + 1;
    return orders[i]?.[at] ?? 0;
  });
}

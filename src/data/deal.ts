/** One of several processes that share out each step's rows. */
export interface Dealing {
  readonly rank: number;
  readonly size: number;
  /** About how long a row is; without it rows go round in turn. */
  readonly lengthOf?: ((row: number) => number) | undefined;
}

/**
 * The rows of a step that are a rank's own, so that every rank has as many, to one, and about as much to do: the longest first, each to the rank that has
 * least so far. The micro-batches of the ranks are then of like length too, as all begin with their longest rows. Graham 1969, doi:10.1137/0117039.
 */
export function deal(rows: Uint32Array, { rank, size, lengthOf }: Dealing): Uint32Array {
  if (size === 1) return rows;
  if (!lengthOf) return rows.filter((_, i) => i % size === rank);
  const most = Math.ceil(rows.length / size);
  const hands = Array.from({ length: size }, () => ({ rows: [] as number[], sum: 0 }));
  for (const row of [...rows].sort((a, b) => lengthOf(b) - lengthOf(a))) {
    const open = hands.filter((hand) => hand.rows.length < most);
    const least = open.reduce((best, hand) => (hand.sum < best.sum ? hand : best));
    least.rows.push(row);
    least.sum += lengthOf(row);
  }
  return Uint32Array.from(hands[rank]?.rows ?? []);
}

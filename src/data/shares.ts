import type { Part } from './rows.ts';

/** How many rows of each part an epoch has: all, as often as the part is repeated, or where parts have weights as much of the rows of all as its weight says. */
export function rowsPerEpoch(parts: readonly Part[]): number[] {
  const weights = parts.map(({ rows, weight = 0 }) => (rows > 0 ? weight : 0));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (sum === 0) return parts.map(({ rows, repeat = 1 }) => (rows > 0 ? Math.max(1, Math.round(rows * repeat)) : 0));
  const all = parts.reduce((total, { rows }) => total + rows, 0);
  const exact = weights.map((weight) => (all * weight) / sum);
  const shares = exact.map(Math.floor);
  // what rounding leaves goes to those that lost most by it
  const order = exact.map((_, i) => i).sort((a, b) => ((exact[b] ?? 0) % 1) - ((exact[a] ?? 0) % 1) || a - b);
  const left = all - shares.reduce((total, share) => total + share, 0);
  for (const i of order.slice(0, left)) shares[i] = (shares[i] ?? 0) + 1;
  return shares;
}

/** All rows of an epoch. */
export const epochRows = (parts: readonly Part[]): number => rowsPerEpoch(parts).reduce((sum, rows) => sum + rows, 0);
